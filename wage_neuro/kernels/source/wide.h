// Any layer of any widths, in sums of 64 bits, driven by events; and layers that the library leaves to its caller.
#pragma once
#include "layer.h"

namespace {

struct WideLayer : Layer {
  const i64 places, inputs;  // of Z; of a sample
  Buf<i64> Z, D, G;
  Buf<i16> fixed;

  WideLayer(Net &n, const Spec &spec) : Layer(n, spec), places(s.z_h * s.z_w), inputs(s.in_h * s.in_w * s.in_c) {
    v8 = e8 = false;
    Z.make(places * N), G.make(weights + GROUP), D.make(inputs);
    make_weights();
  }
  const char *path() const override { return "events, sums of 64 bits"; }
  i64 room_bytes() const override { return B * inputs * 2; }
  void get_codes(const u8 *a, i64 n, i16 *out) const override { memcpy(out, a, (size_t)(n * inputs) * 2); }
  void set_codes(u8 *a, i64 n, const i16 *in) const override { memcpy(a, in, (size_t)(n * inputs) * 2); }
  void encode(Room &room, const u8 *images, i64 n) const override {
    i16 *a = (i16 *)room.a.p;
    for (i64 i = 0; i < n * inputs; i++) a[i] = net.input_codes[images[i]];
  }
  void put(Room &room, i64 first, i64 count, const u8 *from, i64 ld, i64 c0, i64 n) const override {
    i16 *a = (i16 *)room.a.p;
    for (i64 i = 0; i < count; i++)
      for (i64 j = 0; j < n; j++)
        a[(first + i) * below->N + c0 + j] = net.codes_fit_bytes ? (i16)from[i * ld + j] : ((const i16 *)from)[i * ld + j];
  }
  // Call f(place of Z, index of the kernel's row of weights, input) wherever a tap lies inside the image.
  template <class F> void taps(i64 place, F f) const {
    const i64 y0 = place / s.z_w * s.stride - s.top, x0 = place % s.z_w * s.stride - s.left, k = s.kernel;
    for (i64 y = most<i64>(0, -y0); y < least(k, s.in_h - y0); y++)
      for (i64 x = most<i64>(0, -x0); x < least(k, s.in_w - x0); x++)
        f((y * k + x) * s.in_c, ((y0 + y) * s.in_w + x0 + x) * s.in_c);
  }
  void forward(Room &room, i64 n) override {
    for (i64 b = 0; b < n; b++) {
      const i16 *a = (const i16 *)room.a.p + b * inputs, *W = (const i16 *)V.p;
      for (i64 place = 0; place < places; place++) {
        i64 *z = Z + place * N;
        memset(z, 0, (size_t)N * 8);
        taps(place, [&](i64 row, i64 input) {
          for (i64 c = 0; c < s.in_c; c++)
            if (i64 x = a[input + c])
              for (i64 o = 0; o < N; o++) z[o] += x * W[(row + c) * N + o];
        });
      }
      if (s.is_last)
        memcpy(room.Z + b * N, Z, (size_t)N * 8);
      else
        activate(room, b);
    }
  }
  void activate(Room &room, i64 b) {
    const i64 size = most(s.pool_size, (i64)1), step = most(s.pool_step, (i64)1);
    const i64 top = (1 << (s.k_A - 1)) - 1, ceiling = top << s.z_shift;
    Buf<u8> codes;
    codes.make(2 * N);
    for (i64 y = 0; y < s.out_h; y++)
      for (i64 x = 0; x < s.out_w; x++) {
        const i64 first = b * pos + y * s.out_w + x;
        for (i64 o = 0; o < N; o++) {
          const i64 y0 = y * step - s.pool_top, x0 = x * step - s.pool_left;
          i64 best = INT64_MIN, winner = 0;
          for (i64 v = most<i64>(0, -y0); v < least(size, s.z_h - y0); v++)
            for (i64 u = most<i64>(0, -x0); u < least(size, s.z_w - x0); u++) {
              i64 z = Z[((y0 + v) * s.z_w + x0 + u) * N + o];
              if (z > best) best = z, winner = v * size + u;
            }
          room.gate[first * Np + o] = (u8)((best > 0) + (best > ceiling));
          room.win[first * Np + o] = (u8)winner;
          best = round_shift_one(most<i64>(0, least(ceiling, best)), (int)s.z_shift);
          put_at(codes, net.codes_fit_bytes, o, (i32)best);
        }
        above->put(above->rooms[&room - rooms], first, 1, codes, N, 0, N);
      }
  }
  // Call f(place of Z, error code, output) for every error that is not zero.
  template <class F> void errors(const Room &room, const i16 *E, i64 b, F f) const {
    const i64 size = most(s.pool_size, (i64)1), step = most(s.pool_step, (i64)1);
    for (i64 i = 0; i < pos; i++)
      for (i64 o = 0; o < N; o++) {
        const i64 at = (b * pos + i) * Np + o, e = E[at];
        if (!e) continue;
        const i64 winner = s.pool_size ? room.win[at] : 0;
        f((i / s.out_w * step - s.pool_top + winner / size) * s.z_w + i % s.out_w * step - s.pool_left + winner % size, e, o);
      }
  }
  void backward(Room &room, Room *down, const u8 *a, const u8 *post, bool learns) override {
    const i16 *W = rules.feedback == RANDOM && down ? fixed.p : (const i16 *)V.p;
    if (learns) memset(G, 0, (size_t)weights * 8);
    for (i64 b = 0; b < B; b++) {
      if (learns) {
        const i16 *codes = (const i16 *)a + b * inputs;
        errors(room, (const i16 *)post, b, [&](i64 place, i64 e, i64 o) {
          taps(place, [&](i64 row, i64 input) {
            for (i64 c = 0; c < s.in_c; c++) G[(row + c) * N + o] += e * codes[input + c];
          });
        });
      }
      if (!down) continue;
      memset(D, 0, (size_t)inputs * 8);
      errors(room, (const i16 *)room.E.p, b, [&](i64 place, i64 e, i64 o) {
        taps(place, [&](i64 row, i64 input) {
          for (i64 c = 0; c < s.in_c; c++) D[input + c] += e * W[(row + c) * N + o];
        });
      });
      below->set_rows(down->D + b * below->pos * below->Np * (below->wide_D ? 8 : 4), below->wide_D ? 8 : 4, 1, D);
    }
    if (down) down->peak_known = false;
  }
  void feedback_changed() override {
    if (rules.feedback != RANDOM) return;
    fixed.make(weights);
    for (i64 p = 0; p < weights; p++) fixed[p] = feedback[p];
  }
  void sums(u64 step) override { tell_sums(*this, G.p, step); }
  void update(const u8 *, const u8 *, u64 step) override {
    i64 high = 0, low = 0, shift;
    for (i64 p = 0; p < weights; p++) high = most(high, G[p]), low = least(low, G[p]);
    if (!shift_of(most(high, -low), &shift)) return;
    Mover mover(*this, step, shift);
    for (i64 p = 0; p < weights; p += GROUP) mover.add(p, (const i64 *)(G + p));
  }
};

// A layer of a kind that is unknown here: the caller computes, this holds what its neighbours see.
struct ForeignLayer final : WideLayer {
  ForeignLayer(Net &n, const Spec &spec) : WideLayer(n, spec) {}
  const char *path() const override { return "numpy"; }
  void forward(Room &, i64) override {}
  void backward(Room &, Room *, const u8 *, const u8 *, bool) override {}
  void update(const u8 *, const u8 *, u64) override {}
  void sums(u64) override {}
};

}  // namespace
