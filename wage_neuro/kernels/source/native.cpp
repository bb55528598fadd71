// The compiled kernels of WAGE: the numpy engine's bits, whatever the instruction set and the number of threads.
//
// Compiled once for every instruction set (LEVEL, NAME), and once for what they share (SHARED): see build.py. The
// arithmetic is that of wage_neuro.layers, written anew in integers; nothing here is a float. Each layer makes its
// products in the way that its shape and its proven bounds allow (tile.h, single.h, wide.h).
//
// Source: arXiv:1802.04680, equations 2 to 12; Philox of Salmon et al., SC 2011.
#include "api.h"

#ifdef SHARED
#include "shared.h"
#else
#include "single.h"
#include "tile.h"
#include "wide.h"

#include <type_traits>

namespace {

const i64 HALF = 1 << 30;  // sums below it can be rounded in 32 bits

bool sums_fit(const Spec &s, bool sends) {
  const i64 ceiling = ((1 << (s.k_A - 1)) - 1) << (s.z_shift + s.normalised);  // its shifts may be one more
  return s.z_bound < HALF && ceiling < HALF && (!sends || s.d_bound < HALF);
}
template <class M> bool tiles_fit(const Spec &s, const RuleSpec &r, i64 samples) {
  const i64 code = sizeof(typename M::W) == 1 ? 8 : 16;
  const i64 row = (s.in_w + s.left + s.kernel * (s.stride + 1)) * (s.in_c + 4) * 2;
  if (most(s.k_W, most(s.k_A, s.k_E)) > code || s.spread_max >= 1 << (code - 1)) return false;
  if (code == 8 && !bytes_are_exact(s)) return false;
  return (s.conv ? s.g_bound / samples : s.g_bound) <= INT32_MAX && sums_fit(s, s.index && r.feedback != DIRECT) &&
         (s.in_h + s.top + s.kernel * (s.stride + 1)) * row * (s.conv ? 1 : samples) < INT32_MAX;
}
Layer *make_layer(Net &net, const Spec &s) {
  const RuleSpec &r = net.rules;
  const i64 samples = r.pipelined ? 1 : r.samples;
  const bool bytes = most(s.k_W, most(s.k_A, s.k_E)) <= 8 && !s.signed_in;
  if (s.foreign) return new ForeignLayer(net, s);
  if (!s.conv && samples == 1 && !r.team) {
    if (!sums_fit(s, s.index && r.feedback != DIRECT)) return new SingleLayer<Word, i64>(net, s);
    if (bytes && bytes_are_exact(s)) return new SingleLayer<Byte, i32>(net, s);
    return new SingleLayer<Word, i32>(net, s);
  }
  if (tiles_fit<Byte>(s, r, samples)) return s.k_W == 2 ? (Layer *)new TileLayer<Ternary>(net, s) : new TileLayer<Byte>(net, s);
  if (tiles_fit<Word>(s, r, samples)) return new TileLayer<Word>(net, s);
  return new WideLayer(net, s);
}

void destroy(void *p) {
  Net *net = (Net *)p;
  for (i64 i = 0; net->layers && i < net->count; i++) delete net->layers[i];
  free(net->layers);
  free(net);
}
void *create(i64 count, const Spec *specs, const RuleSpec *rules, u64 seed, i64 threads, const i16 *input_codes,
             const i64 *exp_coarse, const i64 *exp_fine, Hook hook) {
  Net *net = (Net *)calloc(1, sizeof(Net));
  if (!net) return nullptr;
  net->rules = *rules, net->seed = seed, net->threads = threads, net->count = count, net->hook = hook;
  net->classes = specs[count - 1].n_out, net->slots = rules->slots ? rules->slots : rules->pipelined ? 2 * count + 1 : 1;
  net->codes_fit_bytes = specs[0].k_A <= 8, net->exp_coarse = exp_coarse, net->exp_fine = exp_fine;
  memcpy(net->input_codes, input_codes, sizeof net->input_codes);
  net->layers = (Layer **)calloc((size_t)count, sizeof(Layer *));
  try {
    if (!net->layers) throw std::bad_alloc();
    for (i64 i = 0; i < count; i++, net->made++) net->layers[i] = make_layer(*net, specs[i]);
  } catch (...) {  // no memory
    destroy(net);
    return nullptr;
  }
  return net;
}
Layer &layer_of(void *net, i64 i) { return *((Net *)net)->layers[i]; }
const char *path(void *net, i64 i) { return layer_of(net, i).path(); }
void set_weights(void *net, i64 i, const i16 *S, const u16 *bits, const u16 *steps, const i16 *M) {
  layer_of(net, i).set_weights(S, bits, steps, M);
}
void get_weights(void *net, i64 i, i16 *S, u16 *bits, u16 *steps, i16 *M) { layer_of(net, i).get_weights(S, bits, steps, M); }
void set_norm(void *net, i64 i, const i64 *norm) { layer_of(net, i).set_norm(norm); }
void get_norm(void *net, i64 i, i64 *norm) { memcpy(norm, layer_of(net, i).norm, (size_t)layer_of(net, i).N * 24); }
void set_feedback(void *p, i64 i, const i8 *B) {
  Layer &layer = layer_of(p, i);
  const bool direct = layer.rules.feedback == DIRECT;
  const i64 rows = direct ? ((Net *)p)->classes * layer.pos : layer.K, ld = direct ? layer.Np : layer.N;
  layer.feedback.make(rows * ld);
  for (i64 r = 0; r < rows; r++) memcpy(layer.feedback + r * ld, B + r * layer.N, (size_t)layer.N);
  layer.feedback_changed();
}
void set_held(void *net, i64 i, const i64 *h) { layer_of(net, i).error_held = {h[0], h[1]}, layer_of(net, i).gradient_held = {h[2], h[3]}; }
void get_held(void *net, i64 i, i64 *h) {
  const Layer &l = layer_of(net, i);
  h[0] = l.error_held.exponent, h[1] = l.error_held.below, h[2] = l.gradient_held.exponent, h[3] = l.gradient_held.below;
}
void get(void *net, i64 i, i64 slot, i64 what, i64 n, i64 *out) {
  const Layer &l = layer_of(net, i);
  Room &room = l.rooms[slot];
  if (what == CODES_IN || what == PRE) {
    Buf<i16> codes;
    const i64 size = n * l.s.in_h * l.s.in_w * l.s.in_c;
    codes.make(size);
    l.get_codes(what == PRE ? room.pre : room.a, n, codes);
    for (i64 j = 0; j < size; j++) out[j] = codes[j];
  } else if (what == LOGITS)
    memcpy(out, room.Z, (size_t)(n * l.N) * 8);
  else
    l.get_rows(what == ERRORS ? room.D : what == WINNERS ? room.win : what == POST ? room.post : room.E,
               what == ERRORS ? (l.wide_D ? 8 : 4) : what == WINNERS || l.e8 ? 1 : 2, n, out);
}
void set(void *net, i64 i, i64 slot, i64 what, i64 n, const i64 *in) {
  Layer &l = layer_of(net, i);
  Room &room = l.rooms[slot];
  if (what == CODES_IN) {
    Buf<i16> codes;
    const i64 size = n * l.s.in_h * l.s.in_w * l.s.in_c;
    codes.make(size);
    for (i64 j = 0; j < size; j++) codes[j] = (i16)in[j];
    l.set_codes(room.a, n, codes);
  } else if (what == LOGITS)
    memcpy(room.Z, in, (size_t)(n * l.N) * 8);
  else if (what == ERRORS) {
    l.set_rows(room.D, l.wide_D ? 8 : 4, n, in);
    room.peak_known = false;
  } else
    l.set_rows(room.E, l.e8 ? 1 : 2, n, in);
}

// --- one layer by itself ----------------------------------------------------------------------------

void forward_alone(void *net, i64 i, i64 slot, i64 n, const i16 *codes, void *out) {
  Layer &l = layer_of(net, i);
  l.set_codes(l.rooms[slot].a, n, codes);
  l.forward(l.rooms[slot], n);
  if (l.s.is_last)
    memcpy(out, l.rooms[slot].Z, (size_t)(n * l.N) * 8);
  else
    l.above->get_codes(l.above->rooms[slot].a, n, (i16 *)out);
}
i64 error_alone(void *net, i64 i, i64 slot, u64 step, i64 log2_eta, i64 hold, const i32 *message, i32 *sent) {
  Layer &l = layer_of(net, i);
  Room &room = l.rooms[slot], *down = sent ? &l.below->rooms[slot] : nullptr;
  l.log2_eta = log2_eta, l.hold = hold;
  l.take_errors(room, l.B, message);
  if (!l.receive(room)) return 0;
  l.draw_factors(room, step);
  l.backward(room, down, l.pre(room), l.post(room), log2_eta != FROZEN);
  if (down) l.below->give_errors(*down, l.B, sent);
  return 1;
}
void update_alone(void *net, i64 i, i64 slot, u64 step) {
  Layer &l = layer_of(net, i);
  if (l.log2_eta != FROZEN) l.update(l.pre(l.rooms[slot]), l.post(l.rooms[slot]), step);
}
void set_update(void *p, i64 i, i64 coincidence, i64 step_max) {
  Layer &l = layer_of(p, i);
  ((Net *)p)->rules.coincidence = coincidence, l.s.step_max = step_max;
  l.make_spikes();
}

// --- the output -------------------------------------------------------------------------------------

// D of softmax, in units of 2**-15; see wage_neuro.softmax
void softmax_error(const Net &net, const i64 *Z, i64 right, i64 log2_one, i64 *D) {
  const i64 n = net.classes, range = 32, drop = log2_one - 16;
  i64 top = Z[0], total = 0;
  for (i64 j = 1; j < n; j++) top = most(top, Z[j]);
  for (i64 j = 0; j < n; j++) {
    i64 x = least(top - Z[j], range << log2_one);
    x = drop > 0 ? (x + ((i64)1 << drop >> 1)) >> drop : x << -drop;
    x = least(x, (range << 16) - 1);
    D[j] = net.exp_coarse[x >> 10] * net.exp_fine[x & 1023] >> 30;
    total += D[j];
  }
  for (i64 j = 0; j < n; j++) D[j] = ((D[j] << 16) + total) / (2 * total) - (j == right ? 1 << 15 : 0);
}
// Error of one sample at the output; whether there is any. `number`: of the sample among all that were learned.
bool output_error(const Net &net, const Spec &s, const i64 *Z, i64 right, const i64 *former, u64 number, i64 *D) {
  const RuleSpec &r = net.rules;
  const i64 n = net.classes, target = (i64)1 << s.log2_target;
  if (r.loss == SOFTMAX)
    softmax_error(net, Z, right, most<i64>(0, s.log2_target - r.sharpness), D);
  else
    for (i64 j = 0; j < n; j++) {
      D[j] = Z[j] - (j == right ? target : 0);
      if (r.loss == ONE_SIDED && (D[j] > 0) == (j == right)) D[j] = 0;
    }
  if (r.margin) {
    i64 second = INT64_MIN;
    for (i64 j = 0; j < n; j++)
      if (j != right) second = most(second, Z[j]);
    if ((n > 1 ? Z[right] - second : Z[right]) * 8 >= r.margin * target) memset(D, 0, (size_t)n * 8);
  }
  for (i64 j = 0; former && j < n; j++)
    if (former[j] != INT64_MIN) D[j] = former[j] == INT64_MIN + 1 ? 0 : D[j] + Z[j] - former[j];
  const u64 fresh = (u64)most<i64>(1, r.total / (1 + r.recalled));
  const int bits = number % (fresh * (u64)(1 + r.recalled)) < fresh ? (int)r.new_shift : 0;
  i64 any = 0;
  for (i64 j = 0; j < n; j++) {
    D[j] = D[j] < 0 ? -(-D[j] >> bits) : D[j] >> bits;
    any |= D[j];
  }
  return any != 0;
}

// --- the order of the work --------------------------------------------------------------------------

struct Run {
  Net &net;
  const Call &call;
  const i64 L;

  bool watched(u64 step) const { return call.watch && step % (u64)call.watch == 0; }
  Layer &layer(i64 i) const { return *net.layers[i]; }
  void forward(i64 i, i64 slot, i64 n, u64 step, bool counts) const {
    if (layer(i).s.foreign)
      net.hook(FOREIGN_FORWARD, i, slot, (i64)step, n);
    else
      layer(i).forward(layer(i).rooms[slot], n);
    if (counts) net.hook(FORWARD, i, slot, (i64)step, n);
  }
  bool read_out(i64 slot, i64 first, i64 n, u64 number) const {
    const Layer &last = layer(L - 1);
    Room &room = last.rooms[slot];
    const i64 classes = net.classes;
    bool any = false;
    memcpy(call.logits + first * classes, room.Z, (size_t)(n * classes) * 8);
    for (i64 b = 0; b < n; b++)
      any |= output_error(net, last.s, room.Z + b * classes, call.labels[first + b],
                          call.former ? call.former + (first + b) * classes : nullptr, number + (u64)b, (i64 *)room.D.p + b * last.Np);
    room.peak_known = false;
    return any;
  }
  // Let layer i learn; whether any error goes on. What is lost in one hidden layer is not lost for the others where the
  // feedback is direct.
  bool learn(i64 i, i64 slot, u64 step) const {
    Layer &l = layer(i);
    const bool direct = net.rules.feedback == DIRECT, counts = watched(step);
    Room &room = l.rooms[slot];
    if (direct && !l.s.is_last) {
      if (counts && !l.s.foreign) net.hook(ARRIVES, i, slot, (i64)step, 0);
      if (!l.s.foreign) l.receive_direct(room, layer(L - 1), layer(L - 1).rooms[slot]);
    }
    if (l.s.foreign) return net.hook(FOREIGN_LEARN, i, slot, (i64)step, counts) || (direct && !l.s.is_last);
    if (!l.receive(room)) return direct && !l.s.is_last;
    const bool learns = l.log2_eta != FROZEN;
    l.draw_factors(room, step);
    if (counts) net.hook(ERROR, i, slot, (i64)step, learns);
    l.backward(room, l.sends() ? &l.below->rooms[slot] : nullptr, l.pre(room), l.post(room), learns);
    if (learns) net.rules.team ? l.sums(step) : l.update(l.pre(room), l.post(room), step);
    if (counts && learns && !net.rules.team) net.hook(UPDATED, i, slot, (i64)step, 0);
    return true;
  }
  void batch(i64 first, u64 step) const {
    const i64 n = net.rules.samples;
    layer(0).encode(layer(0).rooms[0], call.images + first * inputs(), n);
    for (i64 i = 0; i < L; i++) forward(i, 0, n, step, watched(step));
    const bool any = read_out(0, first, n, step * (u64)net.rules.total + (u64)net.rules.first);
    if (!any && !net.rules.team) return;
    for (i64 i = L - 1; i >= 0 && learn(i, 0, step); i--) {
    }
    if (net.rules.team) net.hook(TOGETHER, 0, 0, (i64)step, 0);
  }
  i64 inputs() const { return layer(0).s.in_h * layer(0).s.in_w * layer(0).s.in_c; }
  // As wage_neuro.schedule: one sample a time step, several in flight, each in a slot of its own.
  void pipeline(i64 first, u64 step, u8 *has_error) const {
    const i64 n = net.rules.samples, slots = net.slots;
    const bool direct = net.rules.feedback == DIRECT;
    const i64 steps = n + (direct ? L == 1 ? L + 1 : L + 2 : 2 * L);
    for (i64 t = 0; t < steps; t++) {
      for (i64 i = 0; i < L; i++) {
        i64 j = t - i;
        if (j >= 0 && j < n) {
          if (!i) layer(0).encode(layer(0).rooms[j % slots], call.images + (first + j) * inputs(), 1);
          forward(i, j % slots, 1, step + (u64)j, watched(step + (u64)j));
        }
        j = t - (direct ? i == L - 1 ? L + 1 : L + 2 : 2 * L - i);
        if (j >= 0 && j < n && has_error[j % slots]) has_error[j % slots] = learn(i, j % slots, step + (u64)j);
      }
      const i64 j = t - L;
      if (j >= 0 && j < n) has_error[j % slots] = read_out(j % slots, first + j, 1, step + (u64)j);
    }
  }
};

void train(void *p, const Call *call) {
  Net &net = *(Net *)p;
  for (i64 i = 0; i < net.count; i++) net.layers[i]->log2_eta = call->log2_eta[i], net.layers[i]->hold = call->hold[i];
  const Run run{net, *call, net.count};
  Buf<u8> has_error;
  has_error.make(net.slots);
  u64 step = call->step;
  for (i64 i = 0; i < call->n; i += net.rules.samples)
    if (net.rules.pipelined)
      run.pipeline(i, step, has_error), step += (u64)net.rules.samples;
    else
      run.batch(i, step++);
}
void predict(void *p, const u8 *images, i64 n, i64 *logits, i64 counts) {
  Net &net = *(Net *)p;
  const Call call{images, nullptr, nullptr, n, nullptr, nullptr, 0, logits, 0};
  const Run run{net, call, net.count};
  const i64 most_at_once = run.layer(0).B, last = net.count - 1;
  for (i64 i = 0; i < n; i += most_at_once) {
    const i64 part = least(most_at_once, n - i);
    run.layer(0).encode(run.layer(0).rooms[0], images + i * run.inputs(), part);
    for (i64 l = 0; l < net.count; l++) run.forward(l, 0, part, 0, counts);
    memcpy(logits + i * net.classes, run.layer(last).rooms[0].Z, (size_t)(part * net.classes) * 8);
  }
}
void move(void *p, i64 i, i64 first, i64 n, const i64 *G, i64 peak, u64 step, i16 *codes) {
  move_part(layer_of(p, i), first, n, G, peak, step, codes);
}
void take(void *p, i64 i, i64 first, i64 n, const void *codes, i64 bytes) {
  Layer &l = layer_of(p, i);
  const i64 ends[] = {0, first, first + n, l.weights};
  for (int j = 0; j < 4; j += 2)
    bytes == 1 ? take_parts(l, ends[j], ends[j + 1], (const i8 *)codes) : take_parts(l, ends[j], ends[j + 1], (const i16 *)codes);
}
// Call f with a whole number in 1 .. 8 that the compiler knows.
template <class F> void with_width(i64 width, F f) {
  switch (width) {
#define CASE(W) \
  case W: return f(std::integral_constant<int, W>());
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
  }
}
void pack(const void *from, i64 bytes, i64 n, i64 width, u8 *to) {
  with_width(width, [&](auto W) {
    const i32 *narrow = (const i32 *)from;
    const i64 *wide = (const i64 *)from;
    for (i64 i = 0; i < n; i++) {
      const i64 x = bytes == 4 ? narrow[i] : wide[i];  // the lowest bytes come first
      memcpy(to + i * W, &x, W);
    }
  });
}
void add_up(const u8 *from, i64 ranks, i64 n, i64 width, i64 *to) {
  with_width(width, [&](auto W) {
    constexpr int spare = 64 - 8 * W;
    const u8 *end = from + ranks * n * W;
    memset(to, 0, (size_t)n * 8);
    for (i64 r = 0; r < ranks; r++) {
      const i64 whole = most<i64>(0, least<i64>(n, (end - from - 8) / W));  // whose 8 bytes are all inside
      for (i64 i = 0; i < n; i++) {
        u64 x = 0;
        i < whole ? memcpy(&x, from + i * W, 8) : memcpy(&x, from + i * W, W);
        to[i] += (i64)(x << spare) >> spare;
      }
      from += n * W;
    }
  });
}
// Products of bytes in the widest tile, from the first cache; how many they were.
i64 peak(i64 rounds) {
  constexpr i64 groups = 64;
  Buf<u8> codes, w;
  Buf<i32> offsets, init, out;
  codes.make(groups * 4 + TILE * 4), w.make(groups * 2 * VB), offsets.make(groups), init.make(NB), out.make(TILE * NB);
  for (i64 t = 0; t < groups; t++) offsets[t] = (i32)(4 * t);
  for (i64 i = 0; i < rounds; i++) {
    tile<Ternary, TILE, 4>(codes, offsets, groups, w, init, out, NB, 4);
    asm volatile("" ::: "memory");  // or all rounds but the first are left out
  }
  return rounds * groups * TILE * NB * 4;
}
i64 rounded_log2(u64 x) { return log2_round(x); }
void philox_words(u64 seed, u64 purpose, u64 layer, u64 step, i64 generator, u64 first_block, i64 groups, u64 *words) {
  for (i64 g = 0; g < groups; g += GROUPS) {
    u64 blocks[GROUPS], out[32 * GROUPS];
    const i64 n = least<i64>(GROUPS, groups - g);
    for (i64 j = 0; j < n; j++) blocks[j] = first_block + (u64)(8 * (g + j));
    draw({seed, purpose, layer, step, generator == PHILOX_4X32}, blocks, (int)n, out);
    memcpy(words + 32 * g, out, (size_t)n * 256);
  }
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)

}  // namespace

extern "C" const Api JOIN(wage_api_, NAME);
extern "C" const Api JOIN(wage_api_, NAME) = {TEXT(NAME), VB,       create,   destroy, path, set_weights, get_weights, set_norm, get_norm, set_feedback,
                                              set_held,   get_held, get,      set,     forward_alone, error_alone, update_alone, set_update, train, move, take, predict, pack, add_up, peak, rounded_log2, philox_words};
#endif
