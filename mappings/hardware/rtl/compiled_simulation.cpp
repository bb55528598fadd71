// The bus of a core that Yosys has written as C++ (core.cpp), for the host's driver.
#include "core.cpp"

#include <cstdint>

namespace {

struct Simulation {
    cxxrtl_design::p_top top;
    uint64_t cycles = 0;

    // Only rising edges do anything: one evaluation a cycle. What is no register is seen as it was before the edge.
    void tick() {
        top.prev_p_clk.set<bool>(false);
        top.p_clk.set<bool>(true);
        top.step();
        cycles++;
    }
};

}  // namespace

extern "C" {

Simulation* simulation_new() {
    auto* s = new Simulation;
    s->top.p_rst.set<bool>(false);
    s->top.p_write.set<bool>(false);
    s->tick();
    return s;
}

void simulation_delete(Simulation* s) { delete s; }

uint64_t simulation_cycles(const Simulation* s) { return s->cycles; }

void simulation_write(Simulation* s, const uint32_t* addresses, const uint32_t* words, uint64_t n) {
    s->top.p_write.set<bool>(true);
    for (uint64_t i = 0; i < n; i++) {
        s->top.p_write__address.set<uint32_t>(addresses[i]);
        s->top.p_write__data.set<uint32_t>(words[i]);
        s->tick();
    }
    s->top.p_write.set<bool>(false);
}

// One address a cycle; its word is there `latency` cycles later.
void simulation_read(Simulation* s, const uint32_t* addresses, uint32_t* words, uint64_t n, uint64_t latency) {
    for (uint64_t i = 0; i < n + latency; i++) {
        if (i >= latency) words[i - latency] = s->top.p_read__data.get<uint32_t>();
        s->top.p_read__address.set<uint32_t>(addresses[i < n ? i : 0]);
        s->tick();
    }
}

// Runs until no sample is under way; 0 if that takes more than `most` cycles.
int simulation_wait(Simulation* s, uint64_t most) {
    s->tick();
    for (uint64_t i = 0; i < most; i++) {
        if (!s->top.p_busy.get<bool>()) return 1;
        s->tick();
    }
    return 0;
}

}  // extern "C"
