// What all instruction sets share: which of them this machine has, and the threads.
#pragma once
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define WAGE_DECLARE(name) extern "C" const Api wage_api_##name;
#define WAGE_LIST(name) &wage_api_##name,
WAGE_SETS(WAGE_DECLARE)

namespace {

const Api *const SETS[] = {WAGE_SETS(WAGE_LIST)};

#if defined(__x86_64__)
// Asked of the processor itself: what compilers offer for it answers "no" in a library that zig has linked.
struct Features {
  unsigned b7 = 0, c7 = 0, a71 = 0;
  u64 saved = 0;  // register files that the operating system keeps

  Features() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return;
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    saved = low;
    if (__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) __get_cpuid_count(7, 1, &a71, &b, &c, &d);
  }
  bool avx2() const { return (saved & 0x06) == 0x06 && (b7 >> 5 & 1); }
  bool avxvnni() const { return avx2() && (a71 >> 4 & 1); }
  bool avx512vnni() const {  // F, DQ, BW, VL; VNNI
    const unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return (saved & 0xE6) == 0xE6 && (b7 & wanted) == wanted && (c7 >> 11 & 1);
  }
};
#endif

bool machine_has(const char *name) {
#if defined(__x86_64__)
  const Features found;
  if (!strcmp(name, "avx512vnni")) return found.avx512vnni();
  if (!strcmp(name, "avx2")) return found.avx2();
  if (!strcmp(name, "avxvnni")) return found.avxvnni();
#endif
  return !strcmp(name, "generic");
}

class Pool {
 public:
  const pid_t pid = getpid();
  std::mutex busy;

  void run(i64 tasks, i64 threads, void (*f)(void *, i64, i64), void *context) {
    {
      std::lock_guard<std::mutex> hold(lock);
      for (; count < threads - 1; count++) std::thread(&Pool::work, this, count + 1).detach();
      if ((i64)parts.size() < threads) parts = std::vector<Part>((size_t)threads);
      for (i64 t = 0; t < threads; t++) parts[t].next = tasks * t / threads, parts[t].end = tasks * (t + 1) / threads;
      function = f, argument = context, wanted = threads - 1, left = threads - 1, turn++;
    }
    wake.notify_all();
    drain(0);
    std::unique_lock<std::mutex> hold(lock);
    done.wait(hold, [this] { return !left; });
  }

 private:
  std::mutex lock;
  std::condition_variable wake, done;
  struct alignas(128) Part {  // of the tasks, a thread's own
    std::atomic<i64> next{0};
    i64 end = 0;
  };
  std::vector<Part> parts;
  i64 count = 0, wanted = 0, left = 0;
  u64 turn = 0;
  void (*function)(void *, i64, i64) = nullptr;
  void *argument = nullptr;

  // A thread begins with its own part, so that images stay in its cache from layer to layer, and then helps the others.
  void drain(i64 thread) {
    for (i64 t = 0, threads = wanted + 1; t < threads; t++) {
      Part &part = parts[(thread + t) % threads];
      for (i64 task; (task = part.next++) < part.end;) function(argument, task, thread);
    }
  }
  void work(i64 thread) {
    u64 seen = 0;
    std::unique_lock<std::mutex> hold(lock);
    for (;;) {
      wake.wait(hold, [&] { return turn != seen && thread <= wanted; });
      seen = turn;
      hold.unlock();
      drain(thread);
      hold.lock();
      if (!--left) done.notify_one();
    }
  }
};

std::atomic<Pool *> the_pool{nullptr};

// Threads do not survive a fork: the child makes its own. Pools are never freed, as their threads wait for ever.
Pool &pool() {
  Pool *found = the_pool.load();
  while (!found || found->pid != getpid()) {
    Pool *made = new Pool;
    if (the_pool.compare_exchange_strong(found, made)) return *made;
    delete made;
  }
  return *found;
}

}  // namespace

extern "C" void wage_parallel(i64 tasks, i64 threads, void (*run)(void *, i64, i64), void *context) {
  Pool &p = pool();
  std::unique_lock<std::mutex> mine(p.busy, std::try_to_lock);
  if (mine.owns_lock()) return p.run(tasks, threads < tasks ? threads : tasks, run, context);
  for (i64 task = 0; task < tasks; task++) run(context, task, 0);  // another caller has the threads
}

#define SHOWN extern "C" __attribute__((visibility("default")))

// Its instruction sets, best first, null past the last one; whether this machine has one.
SHOWN const Api *wage_set(i64 i) { return i < (i64)(sizeof SETS / sizeof *SETS) ? SETS[i] : nullptr; }
SHOWN i64 wage_machine_has(i64 i) { return machine_has(SETS[i]->name); }
