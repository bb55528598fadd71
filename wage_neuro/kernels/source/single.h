// A dense layer that learns one sample at a time, driven by events: silent inputs cost nothing, and the gradient,
// an outer product, is never written down.
#pragma once
#include "layer.h"

namespace {

#if LEVEL == 3
#define V_(name) _mm512_##name
typedef __m512i raw;
#elif LEVEL
#define V_(name) _mm256_##name
typedef __m256i raw;
#endif

// z[0 .. n] = sum over `events` inputs of a[i] times row i of V, four inputs at a time
template <class SUM> void sum_rows(const i16 *a, const i32 *event, i64 events, const i16 *V, i64 n, SUM *z) {
  memset(z, 0, (size_t)n * sizeof(SUM));
  for (i64 j = 0; j < events; j++) {
    const i16 *row = V + event[j] * n;
    const SUM x = a[event[j]];
    for (i64 o = 0; o < n; o++) z[o] += x * row[o];
  }
}
inline void sum_rows(const u8 *a, const i32 *event, i64 events, const i8 *V, i64 n, i32 *z) {
#if LEVEL
  for (i64 o = 0; o < n; o += VB) {
    vi c[4] = {};
    const i8 *column = V + o;
    for (i64 j = 0; j < events; j += 4) {
      raw r[4];
      u32 codes = 0;
      for (int l = 0; l < 4; l++) {  // the last few are joined by silence
        const i64 i = event[least(j + l, events - 1)];
        r[l] = load<raw>(column + i * n);
        codes |= j + l < events ? (u32)a[i] << 8 * l : 0;
      }
      raw p = V_(unpacklo_epi8)(r[0], r[1]), q = V_(unpackhi_epi8)(r[0], r[1]);
      raw s = V_(unpacklo_epi8)(r[2], r[3]), t = V_(unpackhi_epi8)(r[2], r[3]);
      const vi x = all((i32)codes);
      c[0] = Byte::dot(c[0], x, (vi)V_(unpacklo_epi16)(p, s)), c[1] = Byte::dot(c[1], x, (vi)V_(unpackhi_epi16)(p, s));
      c[2] = Byte::dot(c[2], x, (vi)V_(unpacklo_epi16)(q, t)), c[3] = Byte::dot(c[3], x, (vi)V_(unpackhi_epi16)(q, t));
    }
    for (int lane = 0; lane < VB / 16; lane++)  // unpacking works within lanes of 16 bytes
      for (int part = 0; part < 4; part++) memcpy(z + o + 16 * lane + 4 * part, (const u8 *)&c[part] + 16 * lane, 16);
  }
#else
  memset(z, 0, (size_t)n * 4);
  for (i64 j = 0; j < events; j++) {
    const i8 *row = V + event[j] * n;
    for (i64 o = 0; o < n; o++) z[o] += a[event[j]] * row[o];
  }
#endif
}

// D[i] = row i of V times E; E holds zeros past n
template <class SUM, class TD> void dot_rows(const i16 *V, const i16 *E, i64 rows, i64 n, TD *D) {
  for (i64 i = 0; i < rows; i++, V += n) {
    SUM sum = 0;
    for (i64 o = 0; o < n; o++) sum += (SUM)V[o] * E[o];
    D[i] = (TD)sum;
  }
}
inline i32 sum_lanes(vi x) {
#if LEVEL == 3
  return _mm512_reduce_add_epi32((__m512i)x);
#else
  i32 sum = 0;
  for (int l = 0; l < VL; l++) sum += x[l];
  return sum;
#endif
}
template <class SUM, class TD> void dot_rows(const i8 *V, const i8 *E, i64 rows, i64 n, TD *D) {
#if LEVEL == 3
  const vi bias = all((i32)0x80808080);
  i32 sum = 0;
  for (i64 o = 0; o < n; o++) sum += E[o];
  sum *= 128;
  for (i64 i = 0; i < rows; i += 4) {
    vi c[4] = {};
    const i64 last = rows - 1 - i;
    const i8 *row[4] = {V + i * n, V + (i + least<i64>(1, last)) * n, V + (i + least<i64>(2, last)) * n, V + (i + least<i64>(3, last)) * n};
    for (i64 o = 0; o < n; o += VB) {
      vi e = load(E + o);
      for (int l = 0; l < 4; l++) c[l] = Byte::dot(c[l], load(row[l] + o) ^ bias, e);
    }
    for (i64 l = 0; l <= least<i64>(3, last); l++) D[i + l] = sum_lanes(c[l]) - sum;
  }
#elif LEVEL
  for (i64 i = 0; i < rows; i++, V += n) {
    vi c = {};
    for (i64 o = 0; o < n; o += VB) {
      raw e = load<raw>(E + o);
      c = Byte::dot(c, (vi)_mm256_abs_epi8(e), (vi)_mm256_sign_epi8(load<raw>(V + o), e));
    }
    D[i] = sum_lanes(c);
  }
#else
  for (i64 i = 0; i < rows; i++, V += n) {
    i32 sum = 0;
    for (i64 o = 0; o < n; o++) sum += V[o] * E[o];
    D[i] = sum;
  }
#endif
}

// M: types of the codes; SUM: of the products
template <class M, class SUM> struct SingleLayer final : Layer {
  typedef typename M::A A;
  typedef typename M::W W;
  Buf<SUM> z;
  Buf<i32> event;
  Buf<u8> codes;

  SingleLayer(Net &n, const Spec &spec) : Layer(n, spec) {
    v8 = e8 = sizeof(W) == 1;
    z.make(up(N, VB) + VB), event.make(K + 8), codes.make(2 * Np);
    magnitude_E.make(Np), negative_E.make(Np), group_top.make(Np / GROUP + 1);
    make_weights();
  }
  const char *path() const override { return sizeof(W) == 1 ? "events, bytes" : "events, 16 bits"; }
  i64 room_bytes() const override { return K * (i64)sizeof(A); }
  void get_codes(const u8 *a, i64, i16 *out) const override {
    for (i64 i = 0; i < K; i++) out[i] = (i16)((const A *)a)[i];
  }
  void set_codes(u8 *a, i64, const i16 *in) const override {
    for (i64 i = 0; i < K; i++) ((A *)a)[i] = (A)in[i];
  }
  void encode(Room &room, const u8 *image, i64) const override {
    A *a = (A *)room.a.p;
    for (i64 i = 0; i < K; i++) a[i] = (A)net.input_codes[image[i]];
  }
  void put(Room &room, i64 first, i64 count, const u8 *from, i64 ld, i64 c0, i64 n) const override {
    A *a = (A *)room.a.p;
    const i64 channels = below->N;
    for (i64 i = 0; i < count; i++)
      for (i64 j = 0; j < n; j++)
        a[(first + i) * channels + c0 + j] = net.codes_fit_bytes ? (A)from[i * ld + j] : (A)((const i16 *)from)[i * ld + j];
  }
  i64 events_of(const A *a) {
    i64 events = 0;
    i32 *at = event;
    const i64 step = 8 / (i64)sizeof(A);
    for (i64 i = 0; i < K; i += step) {
      u64 part = load<u64>(a + i);
      if (!part) continue;
      if (sizeof(A) == 1) {  // codes have 7 bits: no carry from one byte into the next
        for (part = (part + 0x7F7F7F7F7F7F7F7Full) & 0x8080808080808080ull; part; part &= part - 1)
          at[events++] = (i32)(i + __builtin_ctzll(part) / 8);
        continue;
      }
      for (i64 j = i; j < least(K, i + step); j++) at[events] = (i32)j, events += a[j] != 0;
    }
    return events;
  }
  void forward(Room &room, i64) override {
    const A *a = (const A *)room.a.p;
    sum_rows(a, event, events_of(a), (const W *)V.p, N, z.p);
    if (s.is_last) {
      for (i64 o = 0; o < N; o++) room.Z[o] = z[o];
      return;
    }
    const SUM ceiling = (SUM)((1 << (s.k_A - 1)) - 1) << s.z_shift;
    net.codes_fit_bytes ? activate(z.p, room.gate.p, codes.p, ceiling) : activate(z.p, room.gate.p, (i16 *)codes.p, ceiling);
    above->put(above->rooms[&room - rooms], 0, 1, codes, N, 0, N);
  }
  template <class C> void activate(const SUM *__restrict from, u8 *__restrict gate, C *__restrict out, SUM ceiling) const {
    const i64 n = N;
    const int shift = (int)s.z_shift;
    const SUM half = ((SUM)1 << (shift - 1)) - 1;
    for (i64 o = 0; o < n; o++) {
      SUM x = from[o];
      gate[o] = (u8)((x > 0) + (x > ceiling));
      x = most((SUM)0, least(ceiling, x));
      out[o] = (C)((x + half + (x >> shift & 1)) >> shift);
    }
  }
  void backward(Room &room, Room *down, const u8 *, const u8 *, bool) override {
    if (!down) return;
    const Layer &to = *below;
    const W *E = (const W *)room.E.p;
    const W *W_back = rules.feedback == RANDOM ? (const W *)fixed.p : (const W *)V.p;
    if (to.N == to.Np || to.pos == 1) {
      to.wide_D ? dot_rows<SUM>(W_back, E, K, N, (i64 *)down->D.p) : dot_rows<SUM>(W_back, E, K, N, (i32 *)down->D.p);
    } else
      for (i64 i = 0; i < to.pos; i++)
        to.wide_D ? dot_rows<SUM>(W_back + i * to.N * N, E, to.N, N, (i64 *)down->D.p + i * to.Np)
                  : dot_rows<SUM>(W_back + i * to.N * N, E, to.N, N, (i32 *)down->D.p + i * to.Np);
    down->peak_known = false;
  }
  Buf<W> fixed;
  void feedback_changed() override {
    if (rules.feedback != RANDOM) return;
    fixed.make(weights);
    for (i64 p = 0; p < weights; p++) fixed[p] = (W)feedback[p];
  }
  void update(const u8 *pre, const u8 *post, u64 step) override {
    const A *a = (const A *)pre;
    const W *E = (const W *)post;
    i32 a_max = 0, e_max = 0;
    for (i64 i = 0; i < K; i++) a_max = most<i32>(a_max, a[i] < 0 ? -a[i] : a[i]);
    for (i64 o = 0; o < N; o++) e_max = most<i32>(e_max, E[o] < 0 ? -E[o] : E[o]);
    i64 shift;
    if (!shift_of((i64)a_max * e_max, &shift)) return;
    Mover mover(*this, step, shift);
    if (mover.narrow && sizeof(A) == 1 && N % GROUP == 0) return update_bytes(mover, (const u8 *)pre, (const i8 *)post, shift);
    alignas(64) i32 g[GROUP];
    for (i64 p = 0; p < weights; p += GROUP) {
      i64 i = p / N, o = p % N;
      if (o + GROUP <= N) {
        const i32 x = a[i];
        if (!x) continue;
        for (int j = 0; j < GROUP; j++) g[j] = x * E[o + j];
        mover.add(p, (const i32 *)g);
        continue;
      }
      i32 any = 0;
      for (i64 j = 0; j < GROUP;) {  // the rest of this row, and what follows
        const i32 x = i < K ? a[i] : 0;
        const i64 n = least<i64>(GROUP - j, N - o);
        for (i64 l = 0; l < n; l++) g[j + l] = x * E[o + l];
        any |= x, j += n, i++, o = 0;
      }
      if (any) mover.add(p, (const i32 *)g);
    }
  }
  // Ternary weights of bytes in whole groups: nothing of a quotient is written down.
  void update_bytes(Mover &mover, const u8 *a, const i8 *E, i64 shift) {
    struct Waiting {
      i64 p, o;
      u16 x;
    } waiting[GROUPS];
    int n = 0;
    alignas(64) u64 words[GROUPS * 32] = {0};
    alignas(64) i8 moved[GROUP];
    u64 blocks[GROUPS];
    const int right = (int)least<i64>(most<i64>(shift, 0), 15), left = (int)least<i64>(most<i64>(-shift, 0), 16);
    u16 *__restrict m = magnitude_E;
    i8 *__restrict negative = negative_E;
    const auto finish = [&] {
      if (n && left < 16) draw(mover.key, blocks, n, words);
      for (int g = 0; g < n; g++) {
        const Waiting &w = waiting[g];
        outer_carries(m + w.o, w.x, right, left, (const u16 *)(words + 32 * g), moved);
        mover.step_bytes(w.p, moved, negative + w.o);
      }
      n = 0;
    };
    for (i64 o = 0; o < N; o++) m[o] = (u16)(E[o] < 0 ? -E[o] : E[o]), negative[o] = E[o] < 0 ? -1 : 0;
    for (i64 o = 0; o < N; o += GROUP) {
      u16 top = 0;
      for (int j = 0; j < GROUP; j++) top = most(top, m[o + j]);
      group_top[o / GROUP] = top;
    }
    const i64 events = events_of((const A *)a);
    for (i64 j = 0; j < events; j++)
      for (i64 o = 0; o < N; o += GROUP) {
        const i64 i = event[j], p = i * N + o;
        if (!(group_top[o / GROUP] * a[i] >> right)) continue;  // nothing of it can move
        waiting[n] = {p, o, a[i]}, blocks[n] = (u64)p / 16;
        if (++n == GROUPS) finish();
      }
    finish();
  }
  Buf<u16> magnitude_E, group_top;
  Buf<i8> negative_E;
};

}  // namespace
