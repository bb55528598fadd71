// A layer at work: what all ways of making its products have in common. Weights, errors, the update.
#pragma once
#include "simd.h"

namespace {

enum { SILENT, ACTIVE, SATURATED };  // what a neuron's gate lets back: nothing; the error; nothing, nor its peak
constexpr int MOMENTUM_BITS = 16, NORM_FRACTION = 8, NORM_FOLLOW = 4;
enum { UPDATE = 1, PRE_SPIKES = 3, POST_SPIKES = 4 };  // purposes, as wage_neuro.random_bits

struct Layer;

struct Net {
  RuleSpec rules;
  u64 seed;
  i64 threads, count, made, classes, slots;
  bool codes_fit_bytes;
  i16 input_codes[256];
  const i64 *exp_coarse, *exp_fine;
  Hook hook;
  Layer **layers;
};

// Call f(task, thread) for every task, on several threads where the work is worth it.
template <class F> void parallel(const Net &net, i64 tasks, i64 work, F f) {
  if (net.threads < 2 || tasks < 2 || work < 1 << 18) {
    for (i64 i = 0; i < tasks; i++) f(i, (i64)0);
    return;
  }
  wage_parallel(tasks, net.threads, [](void *c, i64 task, i64 thread) { (*(F *)c)(task, thread); }, &f);
}

// What one layer holds of the samples of one slot, from their arrival until their error has passed.
struct Room {
  Buf<u8> a, pre;     // input codes, and the spikes drawn from them, in the layer's own order
  Buf<u8> gate, win;  // (samples, pos, Np), as E and D
  Buf<u8> E, post;    // error codes, i8 or i16
  Buf<u8> D;          // errors that arrived, i32 or i64
  Buf<i64> Z;         // (samples, classes), of the last layer
  Buf<i16> u;         // as gate: codes before ReLU, of a normalised layer
  i64 peak = 0;       // of D, but for what saturated
  bool peak_known = false;
};

struct Held {
  i64 exponent = NONE, below = 0;

  // m of Shift: of the batch's own peak (hold = 0), or the one held before it, which then follows the peak
  i64 next(i64 peak, i64 samples, i64 hold) {
    if (!hold) return peak ? log2_round((u64)peak) : NONE;
    i64 before = exponent;
    if (peak) {
      i64 reached = log2_round((u64)peak);
      below += samples;
      if (reached >= before)
        exponent = reached, below = 0;
      else if (below >= hold)
        exponent = before - 1, below = 0;
    }
    return before;
  }
};

struct Layer {
  Net &net;
  Spec s;
  const RuleSpec &rules;
  i64 K, N, Np, pos, B, weights;  // fan-in, outputs, those with padding, places of an output, samples of a room
  bool v8 = true, s8 = true, e8 = true, wide_D = false;  // types of one byte, or else of two; D of 64 bits
  Buf<u8> S, V;
  Buf<u16> importance, counted;
  Buf<i16> momentum;
  Buf<i64> norm, sums_of_u;                              // of a normalised layer: statistics; sums and magnitudes of u
  Buf<i32> centres, shifts, halves, odds, ceilings;      // what is made of them, (Np,)
  Buf<i8> feedback;  // fixed weights: random (K, N), direct (classes, pos, Np)
  Held error_held, gradient_held;
  Room *rooms = nullptr;
  Layer *below = nullptr, *above = nullptr;
  i64 log2_eta = FROZEN, hold = 1;  // of this call
  i64 code_shift = 0;               // of this update: what makes codes of gradients, for the momentum

  Layer(Net &n, const Spec &spec) : net(n), s(spec), rules(n.rules) {
    K = s.kernel * s.kernel * s.in_c, N = s.n_out, Np = up(N, NB), pos = s.out_h * s.out_w;
    B = rules.pipelined ? 1 : rules.samples, weights = K * N;
    below = net.made ? net.layers[net.made - 1] : nullptr;
    if (below) below->above = this;
    s8 = s.k_G <= 8, wide_D = s.is_last || s.arriving_bound >= 1 << 30;
  }
  virtual ~Layer() { delete[] rooms; }

  virtual const char *path() const = 0;
  virtual i64 room_bytes() const = 0;  // of input codes
  virtual int room_fill() const { return 0; }
  virtual void get_codes(const u8 *a, i64 n, i16 *out) const = 0;
  virtual void set_codes(u8 *a, i64 n, const i16 *in) const = 0;
  virtual void encode(Room &room, const u8 *images, i64 n) const = 0;
  // codes (u8 or i16 as net.codes_fit_bytes) of channels c0.. of output places first.. of the layer below
  virtual void put(Room &room, i64 first, i64 count, const u8 *codes, i64 ld, i64 c0, i64 n) const = 0;
  virtual void forward(Room &room, i64 n) = 0;
  // send the error of E down, and sum the gradient of `a` and `post`
  virtual void backward(Room &room, Room *down, const u8 *a, const u8 *post, bool learns) = 0;
  virtual void update(const u8 *a, const u8 *post, u64 step) = 0;
  virtual void sums(u64) {}  // tell the hook the sums of the gradient, row by row
  virtual void flip(i64, i64, int, int) {}  // visible weight of input i and output o was, is
  virtual void feedback_changed() {}

  void make_weights() {
    S.make((weights + GROUP) * (s8 ? 1 : 2));
    V.make((weights + GROUP) * (v8 ? 1 : 2));
    if (rules.consolidation) importance.make(weights + GROUP), counted.make(weights + GROUP);
    if (rules.momentum) momentum.make(weights + GROUP);
    rooms = new Room[net.slots];
    for (i64 i = 0; i < net.slots; i++) {
      Room &room = rooms[i];
      i64 n = B * pos * Np;
      room.a.make(room_bytes(), room_fill());
      if (!s.is_last) room.gate.make(n), room.win.make(n);
      room.E.make(n * (e8 ? 1 : 2));
      room.D.make(n * (wide_D ? 8 : 4));
      if (s.is_last) room.Z.make(B * N);
      if (s.normalised) room.u.make(n);
    }
    make_spikes();
  }
  void make_spikes() {
    for (i64 i = 0; rules.coincidence && i < net.slots; i++)
      if (!rooms[i].pre) rooms[i].pre.make(room_bytes(), room_fill()), rooms[i].post.make(B * pos * Np * (e8 ? 1 : 2));
  }

  // --- normalisation, see wage_neuro.normal ---
  void set_norm(const i64 *from) {
    if (!norm) {
      norm.make(3 * N), sums_of_u.make(2 * N);
      Buf<i32> *made[] = {&centres, &shifts, &halves, &odds, &ceilings};
      for (Buf<i32> *each : made) each->make(Np);
    }
    memcpy(norm, from, (size_t)N * 24);
    const i32 top = (1 << (s.k_A - 1)) - 1;
    for (i64 o = 0; o < Np; o++) {
      const i32 shift = o < N ? (i32)norm[2 * N + o] : 0;
      centres[o] = o < N ? (i32)round_shift_one<i64>(norm[o], NORM_FRACTION) : 0;
      shifts[o] = shift, halves[o] = shift ? (1 << (shift - 1)) - 1 : 0, odds[o] = shift ? 1 : 0, ceilings[o] = top << shift;
    }
  }
  static i64 divide(i64 a, i64 b) {  // halves up
    a = 2 * a + b, b = 2 * b;
    return a / b - (a % b < 0);
  }
  // Error at Z from that at the activations, and its peak
  template <class T> void project(Room &room) {
    const i64 rows = B * pos, n = N, tasks = least<i64>(rows, 4 * net.threads);
    Buf<i64> parts, peaks;  // of each task: sums of D, D u, u u, u and abs(u), and the peak
    parts.make(tasks * 5 * n), peaks.make(tasks);
    parallel(net, tasks, rows * n, [&](i64 task, i64) {
      i64 *part = parts + task * 5 * n, top = 0;
      for (i64 r = rows * task / tasks; r < rows * (task + 1) / tasks;)
        r += add_rows<T>(room, r, least<i64>(ROWS, rows * (task + 1) / tasks - r), part, &top);
      peaks[task] = top;
    });
    i64 top = peaks[0], *sum = parts, *dot = sum + n, *square = dot + n, shift = norm[2 * n];
    for (i64 t = 1; t < tasks; t++) {
      for (i64 i = 0; i < 5 * n; i++) parts[i] += parts[t * 5 * n + i];
      top = most<i64>(top, peaks[t]);
    }
    memcpy(sums_of_u, square + n, (size_t)n * 16);
    for (i64 o = 0; o < n; o++) {
      sum[o] = divide(sum[o] * (1 << NORM_FRACTION), rows);
      dot[o] = divide(dot[o] * (1 << NORM_FRACTION), most<i64>(square[o], 1));
      shift = least(shift, norm[2 * n + o]);
    }
    for (i64 o = 0; o < n; o++) square[o] = NORM_FRACTION + norm[2 * n + o] - shift;
    parallel(net, tasks, rows * n, [&](i64 task, i64) {
      i64 peak = 0;
      for (i64 r = rows * task / tasks; r < rows * (task + 1) / tasks; r++)
        peak = most(peak, less_parts((T *)room.D.p + r * Np, room.u + r * Np, sum, dot, square, N, top));
      peaks[task] = peak;
    });
    room.peak = 0;
    for (i64 t = 0; t < tasks; t++) room.peak = most<i64>(room.peak, peaks[t]);
  }
  // D less its parts along 1 and u, of one row; its peak
  template <class T>
  static i64 less_parts(T *__restrict D, const i16 *__restrict u, const i64 *__restrict mean, const i64 *__restrict slope,
                        const i64 *__restrict down, i64 n, i64 top) {
    i64 peak = 0;
    for (i64 o = 0; o < n; o++) {
      i64 x = D[o] * ((i64)1 << NORM_FRACTION) - mean[o] - slope[o] * u[o];
      x = (x + (((i64)1 << (down[o] - 1)) - 1) + (x >> down[o] & 1)) >> down[o];
      x = x > top ? top : x < -top ? -top : x;
      D[o] = (T)x;
      const i64 m = x < 0 ? -x : x;
      peak = m > peak ? m : peak;
    }
    return peak;
  }
  static constexpr i64 ROWS = 256;  // whose codes, squared, can be added up in 32 bits in codes of 8
  // Mask D and add up some rows; codes of 8 bits in sums of 32, all others in 64
  template <class T> i64 add_rows(Room &room, i64 first, i64 rows, i64 *__restrict part, i64 *top) const {
    return s.k_A <= 8 ? add_rows_in<T, i32>(room, first, rows, part, top) : add_rows_in<T, i64>(room, first, rows, part, top);
  }
  template <class T> static T mask(T *__restrict D, const u8 *__restrict gate, i64 n) {  // returns the peak that is left
    T high = 0;
    for (i64 o = 0; o < n; o++) {
      D[o] &= -(T)(gate[o] == ACTIVE);
      const T m = D[o] < 0 ? -D[o] : D[o];
      high = m > high ? m : high;
    }
    return high;
  }
  template <class C>
  static void add_codes(const i16 *__restrict u, i64 n, C *__restrict square, C *__restrict sum, C *__restrict size) {
    for (i64 o = 0; o < n; o++) {
      const C c = u[o];
      square[o] += c * c, sum[o] += c, size[o] += c < 0 ? -c : c;
    }
  }
  template <class T, class C> i64 add_rows_in(Room &room, i64 first, i64 rows, i64 *__restrict part, i64 *top) const {
    const i64 n = N;
    T high = 0;
    for (i64 c0 = 0; c0 < n; c0 += 64) {
      const i64 width = least<i64>(64, n - c0);
      i64 sum[64] = {0}, dot[64] = {0};
      C square[64] = {0}, su[64] = {0}, size[64] = {0};
      for (i64 r = first; r < first + rows; r++) {
        T *__restrict D = (T *)room.D.p + r * Np + c0;
        const i16 *__restrict u = room.u + r * Np + c0;
        const u8 *__restrict gate = room.gate + r * Np + c0;
        high = most(high, mask(D, gate, width));
        for (i64 o = 0; o < width; o++) sum[o] += D[o], dot[o] += (i64)D[o] * u[o];
        add_codes(u, width, square, su, size);
      }
      for (i64 o = 0; o < width; o++) {
        i64 *to = part + c0 + o;
        to[0] += sum[o], to[n] += dot[o], to[2 * n] += square[o], to[3 * n] += su[o], to[4 * n] += size[o];
      }
    }
    *top = most<i64>(*top, high);
    return rows;
  }
  void follow_norm() {
    const i64 rows = B * pos, unit = ((i64)1 << most<i64>(0, s.k_A - 3)) << NORM_FRACTION, bound = s.z_bound << NORM_FRACTION;
    Buf<i64> after;
    after.make(3 * N);
    for (i64 o = 0; o < N; o++) {
      i64 centre = norm[o], spread = norm[N + o], shift = norm[2 * N + o];
      const i64 mean = divide(sums_of_u[o] * (1 << NORM_FRACTION), rows), size = divide(sums_of_u[N + o] * (1 << NORM_FRACTION), rows);
      centre += round_shift_one<i64>(mean * ((i64)1 << shift), NORM_FOLLOW);
      spread += round_shift_one<i64>(size - spread, NORM_FOLLOW);
      if (16 * spread > 27 * unit && shift < s.shift_max)
        spread = round_shift_one<i64>(spread, 1), shift++;
      else if (32 * spread < 19 * unit && shift > 0)
        spread *= 2, shift--;
      after[o] = most(-bound, least(bound, centre)), after[N + o] = spread, after[2 * N + o] = shift;
    }
    set_norm(after);
  }
  bool sends() const { return below && rules.feedback != DIRECT; }

  // --- weights in and out ---
  i32 at(const u8 *p, bool bytes, i64 i) const { return bytes ? ((const i8 *)p)[i] : ((const i16 *)p)[i]; }
  void put_at(u8 *p, bool bytes, i64 i, i32 x) const {
    if (bytes)
      ((i8 *)p)[i] = (i8)x;
    else
      ((i16 *)p)[i] = (i16)x;
  }
  i32 visible(i32 x) const {
    i32 top = (1 << (s.k_W - 1)) - 1;
    return most(-top, least(top, round_shift_one<i32>(x, (int)(s.k_G - s.k_W))));
  }
  void set_weights(const i16 *from, const u16 *bits, const u16 *steps, const i16 *M) {
    for (i64 p = 0; p < weights; p++) {
      put_at(S, s8, p, from[p]);
      i32 was = at(V, v8, p), is = visible(from[p]);
      put_at(V, v8, p, is);
      if (was != is) flip(p / N, p % N, was, is);
    }
    if (importance && bits) memcpy(importance, bits, (size_t)weights * 2), memcpy(counted, steps, (size_t)weights * 2);
    if (momentum && M) memcpy(momentum, M, (size_t)weights * 2);
  }
  void get_weights(i16 *to, u16 *bits, u16 *steps, i16 *M) const {
    for (i64 p = 0; p < weights; p++) to[p] = (i16)at(S, s8, p);
    if (importance && bits) memcpy(bits, importance, (size_t)weights * 2), memcpy(steps, counted, (size_t)weights * 2);
    if (momentum && M) memcpy(M, momentum, (size_t)weights * 2);
  }

  // --- errors: arrays of (samples, pos, Np), zeros past N ---

  // Largest magnitude, but for what saturated.
  template <class T> i64 peak_of(const T *__restrict D, const u8 *__restrict gate, i64 n) const {
    T high = 0, low = 0;
    if (gate)
      for (i64 i = 0; i < n; i++) {
        T d = gate[i] == SATURATED ? 0 : D[i];
        high = most(high, d), low = least(low, d);
      }
    else
      for (i64 i = 0; i < n; i++) high = most(high, D[i]), low = least(low, D[i]);
    return most((i64)high, -(i64)low);
  }
  // The same of NB columns of rows that are `step` apart.
  i64 peak_of_rows(const i32 *D, const u8 *gate, i64 rows, i64 step) const {
    vi high = {}, low = {};
    for (i64 i = 0; i < rows; i++, D += step, gate += step)
      for (int v = 0; v < NB; v += VL) {
        const vi open = (vi)(load_codes((const i8 *)gate + v) != (u32)SATURATED), d = load(D + v) & open;
        high = vmax(high, d), low = vmin(low, d);
      }
    i32 top = 0;
    for (int l = 0; l < VL; l++) top = most(top, most(high[l], -low[l]));
    return top;
  }
  i64 peak_of(const Room &room) const {
    const i64 size = B * pos * Np;
    return wide_D ? peak_of((i64 *)room.D.p, room.gate, size) : peak_of((i32 *)room.D.p, room.gate, size);
  }

  template <class T, class C> bool codes(const T *__restrict D, const u8 *__restrict gate, i64 n, i64 shift, C *__restrict E) const {
    const T top = (T)((1 << (s.k_E - 1)) - 1);
    int any = 0;
    if (shift > 8 * (i64)sizeof(T) - 2) {
      for (i64 i = 0; i < n; i++) E[i] = 0;
      return false;
    }
    const int right = (int)most<i64>(shift, 0), left = (int)least<i64>(most<i64>(-shift, 0), 16);
    const T half = right ? ((T)1 << (right - 1)) - 1 : 0, odd = right ? 1 : 0;
    const T cut = left ? top : (T)1 << (8 * sizeof(T) - 2);  // more saturates all the same
    for (i64 i = 0; i < n; i++) {
      T d = most((T)-cut, least(cut, D[i])) * ((T)1 << left);
      d = (d + half + (d >> right & odd)) >> right;
      d = most((T)-top, least(top, d));
      C e = (C)d;
      if (gate) e = gate[i] == ACTIVE ? e : (C)0;
      E[i] = e;
      any |= e;
    }
    return any != 0;
  }
  // E of the error that has arrived; false where all of it is lost
  bool receive(Room &room) {
    if (s.normalised)
      wide_D ? project<i64>(room) : project<i32>(room);
    else if (!room.peak_known)
      room.peak = peak_of(room);
    room.peak_known = false;
    if (rules.team) room.peak = net.hook(PEAK, s.index, 0, 0, room.peak);
    i64 exponent = s.error_exponent;
    if (exponent == NONE) {
      exponent = error_held.next(room.peak, rules.total, rules.held ? hold : 0);
      if (exponent == NONE || !room.peak) return false;
      exponent -= s.log2_gamma;
    } else if (!room.peak)
      return false;
    i64 shift = exponent - (s.k_E - 1), parts = B, each = pos * Np;
    u8 any[64] = {0};
    i64 tasks = least<i64>(parts, 64);
    parallel(net, tasks, B * each, [&](i64 t, i64) {
      i64 from = parts * t / tasks * each, n = parts * (t + 1) / tasks * each - from;
      const u8 *gate = room.gate && !s.normalised ? room.gate + from : nullptr;
      if (wide_D)
        any[t] = e8 ? codes((i64 *)room.D.p + from, gate, n, shift, (i8 *)room.E.p + from)
                    : codes((i64 *)room.D.p + from, gate, n, shift, (i16 *)room.E.p + from);
      else
        any[t] = e8 ? codes((i32 *)room.D.p + from, gate, n, shift, (i8 *)room.E.p + from)
                    : codes((i32 *)room.D.p + from, gate, n, shift, (i16 *)room.E.p + from);
    });
    for (i64 t = 0; t < tasks; t++)
      if (any[t]) return true;
    return rules.team;  // others may have an error
  }
  // D of direct feedback, from the last layer's error codes
  void receive_direct(Room &room, const Layer &last, const Room &top) {
    i64 each = pos * Np;
    for (i64 b = 0; b < B; b++) {
      i32 *D = (i32 *)room.D.p + b * each;
      if (wide_D) {
        i64 *wide = (i64 *)room.D.p + b * each;
        memset(wide, 0, (size_t)each * 8);
        for (i64 c = 0; c < last.N; c++) {
          i32 e = last.at(top.E, last.e8, b * last.Np + c);
          for (i64 i = 0; e && i < each; i++) wide[i] += (i64)e * feedback[c * each + i];
        }
        continue;
      }
      memset(D, 0, (size_t)each * 4);
      for (i64 c = 0; c < last.N; c++) {
        i32 e = last.at(top.E, last.e8, b * last.Np + c);
        for (i64 i = 0; e && i < each; i++) D[i] += e * feedback[c * each + i];
      }
    }
    room.peak_known = false;
  }
  // D of the errors that arrive, row-major
  void take_errors(Room &room, i64 n, const i32 *in) const {
    for (i64 i = 0; i < n * pos; i++, in += N)
      if (wide_D)
        for (i64 o = 0; o < N; o++) ((i64 *)room.D.p)[i * Np + o] = in[o];
      else
        memcpy((i32 *)room.D.p + i * Np, in, (size_t)N * 4);
    room.peak_known = false;
  }
  void give_errors(const Room &room, i64 n, i32 *out) const {
    for (i64 i = 0; i < n * pos; i++, out += N)
      if (wide_D)
        for (i64 o = 0; o < N; o++) out[o] = (i32)((const i64 *)room.D.p)[i * Np + o];
      else
        memcpy(out, (const i32 *)room.D.p + i * Np, (size_t)N * 4);
  }
  void get_rows(const u8 *from, i64 bytes, i64 n, i64 *out) const {  // of (n, pos, Np) to (n, pos, N)
    for (i64 i = 0; i < n * pos; i++)
      for (i64 o = 0; o < N; o++) {
        i64 j = i * Np + o;
        *out++ = bytes == 8 ? ((const i64 *)from)[j] : bytes == 4 ? ((const i32 *)from)[j] : at(from, bytes == 1, j);
      }
  }
  void set_rows(u8 *to, i64 bytes, i64 n, const i64 *in) const {
    for (i64 i = 0; i < n * pos; i++)
      for (i64 o = 0; o < N; o++, in++) {
        i64 j = i * Np + o;
        if (bytes == 8)
          ((i64 *)to)[j] = *in;
        else if (bytes == 4)
          ((i32 *)to)[j] = (i32)*in;
        else
          put_at(to, bytes == 1, j, (i32)*in);
      }
  }

  // --- learning spikes, drawn in row-major order ---
  bool narrow_bits() const { return rules.generator == PHILOX_4X32; }
  static void draw_codes(const i16 *codes, i64 n, int shift, const Stream &key, i16 *out) {
    u64 words[32 * GROUPS];
    const u16 *r = (const u16 *)words;
    for (i64 first = 0; first < n; first += GROUP) {
      i64 size = least<i64>(GROUP, n - first);
      int any = 0;
      for (i64 j = 0; j < size; j++) any |= codes[first + j];
      if (any) {
        u64 block = (u64)first / 16;
        draw(key, &block, 1, words);
      }
      for (i64 j = 0; j < size; j++) {
        i64 code = codes[first + j], m = code < 0 ? -code : code;
        bool spike = any && r[j] < (shift >= 0 ? m << shift : -(-m >> -shift));
        out[first + j] = (i16)(spike ? (code > 0) - (code < 0) : 0);
      }
    }
  }
  void draw_spikes(Room &room, u64 step) {
    i64 inputs = s.in_h * s.in_w * s.in_c, outputs = pos * N;
    Buf<i16> codes, out;
    codes.make(most(inputs, outputs)), out.make(most(inputs, outputs));
    get_codes(room.a, 1, codes);
    draw_codes(codes, inputs, (int)(17 - s.k_A), {net.seed, PRE_SPIKES, (u64)s.index, step, narrow_bits()}, out);
    set_codes(room.pre, 1, out);
    for (i64 i = 0; i < outputs; i++) codes[i] = (i16)at(room.E, e8, i / N * Np + i % N);
    draw_codes(codes, outputs, (int)(17 - s.k_E + log2_eta), {net.seed, POST_SPIKES, (u64)s.index, step, narrow_bits()}, out);
    for (i64 i = 0; i < outputs; i++) put_at(room.post, e8, i / N * Np + i % N, out[i]);
  }

  // What a weight learns from: codes, or the spikes drawn from them.
  bool spikes() const { return rules.coincidence && log2_eta != FROZEN; }
  void draw_factors(Room &room, u64 step) {
    if (spikes()) draw_spikes(room, step);
  }
  const u8 *pre(const Room &room) const { return spikes() ? room.pre : room.a; }
  const u8 *post(const Room &room) const { return spikes() ? room.post : room.E; }

  // --- the update ---

  // Exponent of the gradients, and what their quotients are shifted by; false where nothing moves.
  bool shift_of(i64 peak, i64 *shift) {
    *shift = -16;  // a coincidence moves a whole step
    if (rules.coincidence) return peak != 0;
    i64 exponent = s.gradient_exponent;
    if (exponent == NONE) exponent = gradient_held.next(peak, rules.total, rules.held ? hold : 0);
    code_shift = exponent - (MOMENTUM_BITS - 1 - rules.momentum);
    *shift = (rules.momentum ? MOMENTUM_BITS - 1 : exponent) - log2_eta - 16;
    const bool moves = exponent != NONE && peak != 0;
    if (moves && s.normalised) follow_norm();
    return moves;
  }
};

template <class T> void tell_sums(const Layer &l, const T *G, u64 step) {
  l.net.hook(SUMS, l.s.index, sizeof(T), (i64)step, (i64)(intptr_t)G);
}
inline u64 magnitude(i64 x) { return x < 0 ? 0ull - (u64)x : (u64)x; }

// Q_G, the clipped step and Q_W of groups of weights that lie side by side; their random bits are drawn for
// several groups together, and only where some quotient has bits to be rounded.
struct Mover {
  Layer &layer;
  const Stream key;
  const u32 q_max, q_limit;
  int right, left;
  const bool narrow;  // steps of one, ternary weights, all in bytes: work on many at once
  int waiting = 0;
  i64 place[GROUPS];
  u64 blocks[GROUPS];
  union {
    struct {
      alignas(64) u32 q[GROUP];
      alignas(64) i32 sign[GROUP];
    };
    struct {  // quotients below 1; which are 1; which are of a negative gradient: -1 or 0
      alignas(64) u16 part[GROUP];
      alignas(64) i8 whole[GROUP];
      alignas(64) i8 negative[GROUP];
    };
  } held[GROUPS];
  alignas(64) u64 words[GROUPS * 32];
  alignas(64) u16 zeros[GROUP];

  static u32 limit_of(u32 top, i64 shift) { return shift > -32 ? top >> (shift < 0 ? -shift : 0) : 0; }
  Mover(Layer &l, u64 step, i64 shift)
      : layer(l), key{l.net.seed, UPDATE, (u64)l.s.index, step, l.narrow_bits()}, q_max((u32)l.s.step_max << 16),
        q_limit(limit_of(q_max, shift)),
        narrow(l.s.step_max == 1 && l.s8 && l.v8 && l.s.k_W == 2 && l.s.k_G > 2 && !l.importance && !l.rules.metaplasticity) {
    right = (int)least<i64>(most<i64>(shift, 0), 63), left = shift < 0 && shift > -32 ? (int)-shift : 0;
    memset(zeros, 0, sizeof zeros);
  }
  ~Mover() { finish(); }
  Mover(const Mover &) = delete;

  // g: gradients of weights p .. p + GROUP
  template <class T> void add(i64 p, const T *g) {
    if (!layer.momentum) return push(p, g);
    alignas(64) i32 M[GROUP];
    follow(p, g, M);
    push(p, (const i32 *)M);
  }

  // M: momentum of weights p .. p + GROUP after their gradients
  template <class T> void follow(i64 p, const T *g, i32 *M) {
    const i64 top = (1 << (MOMENTUM_BITS - 1)) - 1, shift = layer.code_shift;
    const int decay = (int)layer.rules.momentum, down = (int)most<i64>(shift, 0), up = (int)most<i64>(-shift, 0);
    const i64 half = down ? ((i64)1 << (down - 1)) - 1 : 0, odd = down ? 1 : 0;
    i16 *at = layer.momentum + p;
    const i64 limit = (top >> up) + 1;  // more saturates all the same
    for (int j = 0; j < GROUP; j++) {
      i64 x = up ? most(-limit, least<i64>(limit, g[j])) * ((i64)1 << up) : g[j];
      x = most(-top, least(top, (x + half + (x >> down & odd)) >> down));
      x += at[j] - round_shift_one<i32>(at[j], decay);
      at[j] = (i16)(M[j] = (i32)most(-top, least(top, x)));
    }
  }
  void push(i64 p, const i32 *g) {
    auto &to = held[waiting];
    alignas(64) u32 quotient[GROUP];
    u32 *q = narrow ? quotient : to.q;
    vu any = {};
    const int shift = least(right, 31);
    for (int j = 0; j < GROUP; j += VL) {
      const vi x = load(g + j), sign = x >> 31;
      const vu m = (vu)((x ^ sign) - sign);
      vu part = right ? m >> shift : m << (left < 31 ? left : 31);
      part = right ? (part > q_max ? all(q_max) : part) : m > q_limit ? all(q_max) : part;
      store(q + j, part);
      if (!narrow) store(to.sign + j, sign);
      any |= part;
    }
    go_on(p, g, q, any_of(any));
  }
  void push(i64 p, const i64 *g) {
    auto &to = held[waiting];
    alignas(64) u32 quotient[GROUP];
    u32 *q = narrow ? quotient : to.q, any = 0;
    for (int j = 0; j < GROUP; j++) {
      const u64 m = magnitude(g[j]);
      q[j] = right ? (u32)least<u64>(m >> right, q_max) : m > q_limit ? q_max : (u32)m << left;
      any |= q[j];
      if (!narrow) to.sign[j] = g[j] < 0 ? -1 : 0;
    }
    go_on(p, g, q, any);
  }
  template <class T> void go_on(i64 p, const T *g, const u32 *q, u32 any) {
    if (!any) return;
    auto &to = held[waiting];
    if (narrow) {
      u32 rest = 0;
      for (int j = 0; j < GROUP; j++) {
        u16 low = (u16)q[j];
        to.part[j] = low, rest |= low;
        to.whole[j] = q[j] >> 16 ? -1 : 0, to.negative[j] = g[j] < 0 ? -1 : 0;
      }
      return wait(p, rest);
    }
    if (layer.importance || layer.rules.metaplasticity) any = damp(p, to.q, to.sign);
    if (any) wait(p, any & 0xFFFF);
  }
  // held[waiting] has become full; `rest`: bits of it to be rounded
  void wait(i64 p, u32 rest) {
    if (!rest) return move(p, waiting, zeros);  // whole steps need no random bits
    place[waiting] = p, blocks[waiting] = (u64)p / 16;
    if (++waiting == GROUPS) finish();
  }
  void finish() {
    if (!waiting) return;
    draw(key, blocks, waiting, words);
    for (int g = 0; g < waiting; g++) move(place[g], g, (const u16 *)(words + 32 * g));
    waiting = 0;
  }

  // A step of weights p .. p + GROUP where `moved`, against the gradient's sign; both are -1 or 0.
  void step_bytes(i64 p, const i8 *moved, const i8 *negative) {
    alignas(64) i8 is[GROUP];
    i8 *S = (i8 *)layer.S.p + p, *V = (i8 *)layer.V.p + p;
    const vs bound = all((i8)layer.s.stored_max), half = all((i8)(1 << (layer.s.k_G - 3)));
    vs differ = {};
    for (int j = 0; j < GROUP; j += VB) {
      const vs s = load<vs>(S + j), down = load<vs>(negative + j);
      const vs step = load<vs>(moved + j) & (down ? (vs)(s < bound) : (vs)(s > -bound));
      const vs x = s + (step ^ down) - down, v = (vs)(x < -half) - (vs)(x > half);
      store(S + j, x);
      store(is + j, v);
      differ |= v ^ load<vs>(V + j);
    }
    if (any_bit((vw)differ)) flips(p, V, (const i8 *)is);
  }

 private:
  u32 damp(i64 p, u32 *quotient, const i32 *negative) {
    const i64 most_bits = layer.rules.metaplasticity;
    u32 any = 0;
    for (int j = 0; j < GROUP; j++) {
      u32 bits = layer.importance ? layer.importance[p + j] : 0;
      i32 S = layer.at(layer.S, layer.s8, p + j);
      if (negative[j] ? S < 0 : S > 0) bits += (u32)least<i64>(most_bits, most_bits * (S < 0 ? -S : S) >> (layer.s.k_G - 2));
      quotient[j] = bits < 32 ? quotient[j] >> bits : 0;
      any |= quotient[j];
    }
    return any;
  }
  void move(i64 p, int g, const u16 *r) {
    if (narrow) return move_bytes(p, g, r);
    if (layer.counted)
      for (int j = 0; j < GROUP; j++)
        layer.counted[p + j] = (u16)(layer.counted[p + j] + (held[g].q[j] + r[j] >= 1u << 16 && layer.counted[p + j] < 0xFFFF));
    if (layer.s8)
      layer.v8 ? move_in<i8, i8>(p, g, r) : move_in<i8, i16>(p, g, r);
    else
      layer.v8 ? move_in<i16, i8>(p, g, r) : move_in<i16, i16>(p, g, r);
  }
  template <class SS, class VV> void move_in(i64 p, int g, const u16 *r) {
    SS *S = (SS *)layer.S.p + p;
    VV *V = (VV *)layer.V.p + p;
    const i32 bound = (i32)layer.s.stored_max, top = (1 << (layer.s.k_W - 1)) - 1;
    const int v_shift = (int)(layer.s.k_G - layer.s.k_W), down = most(v_shift, 0), up = most(-v_shift, 0);
    const u32 *q = held[g].q;
    const i32 *sign = held[g].sign;
    alignas(64) VV is[GROUP];
    for (int j = 0; j < GROUP; j += VL) {
      const vi step = (vi)((load<vu>(q + j) + load_codes((const i16 *)r + j)) >> 16), negative = load(sign + j);
      vi x = load_signed(S + j) - ((step ^ negative) - negative);
      x = vmax(all(-bound), vmin(all(bound), x));
      store_codes(S + j, x);
      x = round_shift(x << up, down);
      store_codes(is + j, vmax(all(-top), vmin(all(top), x)));
    }
    flips(p, V, is);
  }
  void move_bytes(i64 p, int g, const u16 *r) {
    alignas(64) i8 moved[GROUP];
    carries(held[g].part, r, GROUP, moved);
    for (int j = 0; j < GROUP; j += VB) store(moved + j, load<vs>(moved + j) | load<vs>(held[g].whole + j));
    step_bytes(p, moved, held[g].negative);
  }
  template <class VV> void flips(i64 p, VV *V, const VV *is) {
    if (!memcmp(is, V, GROUP * sizeof(VV))) return;
    const i64 row = p / layer.N;
    for (i64 j = 0; j < GROUP; j += 8 / (i64)sizeof(VV)) {
      u64 differ = load<u64>(V + j) ^ load<u64>(is + j);
      while (differ) {
        const i64 l = j + __builtin_ctzll(differ) / (8 * (i64)sizeof(VV));
        i64 i = row, o = p - row * layer.N + l;
        if (o >= layer.N) i += o / layer.N, o %= layer.N;
        layer.flip(i, o, V[l], is[l]);
        V[l] = is[l];
        differ = load<u64>(V + j) ^ load<u64>(is + j);
      }
    }
  }
};

// --- a team's weights -------------------------------------------------------------------------------

void move_part(Layer &l, i64 first, i64 n, const i64 *G, i64 peak, u64 step, i16 *codes) {
  const bool steps = l.s.step_max == 1;
  i64 shift;
  for (i64 j = 0; steps && j < n; j++) codes[j] = (i16)l.at(l.S, l.s8, first + j);
  if (l.shift_of(peak, &shift)) {
    Mover mover(l, step, shift);
    alignas(64) i64 g[GROUP];
    for (i64 j = 0; j < n; j += GROUP) {
      for (i64 i = 0; i < GROUP; i++) g[i] = j + i < n ? G[j + i] : 0;
      mover.add(first + j, (const i64 *)g);
    }
  }
  for (i64 j = 0; j < n; j++) codes[j] = (i16)(l.at(l.S, l.s8, first + j) - (steps ? codes[j] : 0));
}
template <class T> void take_parts(Layer &l, i64 from, i64 to, const T *codes) {
  const bool steps = l.s.step_max == 1;
  constexpr i64 each = 8 / (i64)sizeof(T);
  for (i64 p = from; p < to;) {
    if (steps && p + each <= to && !load<u64>(codes + p)) {
      p += each;
      continue;
    }
    const i32 before = l.at(l.S, l.s8, p), now = codes[p] + (steps ? before : 0);
    if (before != now) {
      const i32 was = l.at(l.V, l.v8, p), is = l.visible(now);
      l.put_at(l.S, l.s8, p, now);
      if (was != is) l.put_at(l.V, l.v8, p, is), l.flip(p / l.N, p % l.N, was, is);
    }
    p++;
  }
}
}  // namespace
