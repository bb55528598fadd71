// Products in tiles of registers, for a batch and for convolutions.
//
// Codes lie in the order in which the products read them, as 32-bit groups of Q codes of neighbouring channels:
// [y][c / Q][x][Q] with the zero border around, so that a convolution reads them in place. Images of fewer than Q
// channels lie as they are, [y][x][c], and a group runs on along the row. A dense layer is an image of height 1 whose
// x axis is the batch.
#pragma once
#include "layer.h"

namespace {

// out[p][NB] = init + sum of `groups` groups: of codes at a + offsets[t] + p * step, of weights w[t][NB][Q]
template <class M, int P, int STEP>
inline void tile(const u8 *a, const i32 *offsets, i64 groups, const u8 *w, const i32 *init, i32 *out, i64 ld, i64 step) {
  if (STEP) step = STEP;
  vi c[P][2], i0 = load(init), i1 = load(init + VL);
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) c[p][0] = i0, c[p][1] = i1;
#if LEVEL < 2
  if constexpr (M::RUN > 1)
    for (i64 t = 0; t < groups;) {
      vx sum[P][2] = {};
      for (const i64 end = least(groups, t + M::RUN); t < end; t++, w += 2 * VB) {
        const u8 *q = a + offsets[t];
        vi w0 = load(w), w1 = load(w + VB);
#pragma GCC unroll 16
        for (int p = 0; p < P; p++) {
          vi v = bcast(q + p * step);
          sum[p][0] += pairs_of(v, w0), sum[p][1] += pairs_of(v, w1);
        }
      }
#pragma GCC unroll 16
      for (int p = 0; p < P; p++) c[p][0] = add_pairs(c[p][0], sum[p][0]), c[p][1] = add_pairs(c[p][1], sum[p][1]);
    }
  else
#endif
    for (i64 t = 0; t < groups; t++, w += 2 * VB) {
      const u8 *q = a + offsets[t];
      vi w0 = load(w), w1 = load(w + VB);
#pragma GCC unroll 16
      for (int p = 0; p < P; p++) {
        vi v = bcast(q + p * step);
        c[p][0] = M::dot(c[p][0], v, w0), c[p][1] = M::dot(c[p][1], v, w1);
      }
    }
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) store(out + p * ld, c[p][0]), store(out + p * ld + VL, c[p][1]);
}

// The same for a row of n places, cut evenly into tiles.
template <class M, int STEP>
void row(const u8 *a, i64 n, const i32 *offsets, i64 groups, const u8 *w, const i32 *init, i32 *out, i64 ld, i64 step) {
  while (n) {
    i64 parts = (n + M::ROWS - 1) / M::ROWS, p = (n + parts - 1) / parts;
    switch (p) {
#define CASE(P) \
  case P: tile<M, P, STEP>(a, offsets, groups, w, init, out, ld, step); break;
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if LEVEL == 3
      CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
#undef CASE
    }
    a += p * step, out += p * ld, n -= p;
  }
}
template <class M>
void any_row(const u8 *a, i64 n, const i32 *offsets, i64 groups, const u8 *w, const i32 *init, i32 *out, i64 ld, i64 step) {
  switch (step) {
    case 1: return row<M, 1>(a, n, offsets, groups, w, init, out, ld, step);
    case 2: return row<M, 2>(a, n, offsets, groups, w, init, out, ld, step);
    case 3: return row<M, 3>(a, n, offsets, groups, w, init, out, ld, step);
    case 4: return row<M, 4>(a, n, offsets, groups, w, init, out, ld, step);
    default: return row<M, 0>(a, n, offsets, groups, w, init, out, ld, step);
  }
}

// g[r][NB] (+)= sum over n images of h rows of xq groups: codes at a + offsets[r] + i * a_step + y * y_step + 4 x, errors
// e + i * e_step, [y][x][NB][Q]
template <class M>
void gradient_tile(const u8 *a, const i64 *offsets, i64 a_step, i64 y_step, const u8 *e, i64 e_step, i64 n, i64 h, i64 xq, i32 *g,
                   i64 ld, bool first) {
  vi c[GROWS][2];
  const u8 *q[GROWS];
#pragma GCC unroll 8
  for (int r = 0; r < GROWS; r++) {
    q[r] = a + offsets[r];
    c[r][0] = first ? vi{} : load(g + r * ld), c[r][1] = first ? vi{} : load(g + r * ld + VL);
  }
  i64 at = 0;
  for (i64 i = 0; i < n; i++, at += a_step - h * y_step, e += e_step - h * xq * 2 * VB)
    for (i64 y = 0; y < h; y++, at += y_step - 4 * xq)
      for (i64 x = 0; x < xq; x++, at += 4, e += 2 * VB) {
        vi e0 = load(e), e1 = load(e + VB);
#pragma GCC unroll 8
        for (int r = 0; r < GROWS; r++) {
          vi v = bcast(q[r] + at);
          c[r][0] = M::dot(c[r][0], v, e0), c[r][1] = M::dot(c[r][1], v, e1);
        }
      }
#pragma GCC unroll 8
  for (int r = 0; r < GROWS; r++) store(g + r * ld, c[r][0]), store(g + r * ld + VL, c[r][1]);
}

// Weights in the order of a product: [columns / NB][groups][NB][Q], and what sums begin with.
template <class M> struct Packed {
  typedef typename M::W W;
  Buf<W> w;
  Buf<i32> init;
  Buf<i32> offsets;  // bytes, of the codes of each group
  i64 groups = 0;

  void make(i64 n, i64 columns) {
    groups = n;
    w.make(up(columns, NB) * n * M::Q), init.make(up(columns, NB)), offsets.make(n);
  }
  void put(i64 place, i64 column, int was, int is, bool biased, bool alone) {  // place: group * Q + code in it
    w[((column / NB * groups + place / M::Q) * NB + column % NB) * M::Q + place % M::Q] = (W)is;
    if (!M::BIAS || !biased) return;
    if (alone)
      init[column] -= M::BIAS * (is - was);
    else  // several threads may meet in one column
      __atomic_fetch_sub(init + column, M::BIAS * (is - was), __ATOMIC_RELAXED);
  }
  const u8 *block(i64 column) const { return (const u8 *)(w + column * groups * M::Q); }
};

template <class M> struct TileLayer final : Layer {
  typedef typename M::A A;
  typedef typename M::W W;
  static constexpr int Q = M::Q;
  static constexpr i64 MOST_TOGETHER = 8, LONG_SUM = 224, CACHE = 1 << 20;

  struct Scratch {  // of one thread
    Buf<i32> z, G;
    Buf<i64> wide_G, e_sum;
    Buf<i32> e_part;
    Buf<u8> codes, back, at;
    Buf<W> spread, ei;
    i64 images = 0;  // in G
    i64 peak = 0;
    bool started = false;  // G holds something, or wide_G
    vi high, low;          // among gradients

    void gradients(const i32 *g, i64 rows, i64 step) {
      for (i64 r = 0; r < rows; r++, g += step)
        for (int v = 0; v < NB; v += VL) high = vmax(high, load(g + v)), low = vmin(low, load(g + v));
    }
    i64 peak_of_gradients() const {
      i64 top = 0;
      for (int l = 0; l < VL; l++) top = most(top, most((i64)high[l], -(i64)low[l]));
      return top;
    }
  };

  const bool conv;
  const i64 images, H, Wd, C, k, st, zH, zW;
  bool dotted, biased, wide;  // fewer than Q channels; codes plus BIAS; gradients of 64 bits
  i64 C4, Hp, Wp, y_bytes, x_bytes, image_bytes;
  i64 O4, Hb, Wb;            // errors with their border, [y][o / Q][x][Q]
  i64 XQ, RS, rows_K, most_images;  // groups along a row of errors; codes along a row of `at`
  i64 at_bytes, ei_bytes, back_bytes, together;  // of one image; images that are worked on together
  Packed<M> ahead, back;
  Buf<i64> place, back_place, at_offset;  // of each input of a place: in `ahead`; in `back`; in `at`, bytes
  Scratch *scratch;

  TileLayer(Net &n, const Spec &spec)
      : Layer(n, spec), conv(spec.conv), images(conv ? B : 1), H(spec.in_h), Wd(conv ? spec.in_w : B), C(spec.in_c),
        k(spec.kernel), st(spec.stride), zH(spec.z_h), zW(conv ? spec.z_w : B) {
    v8 = e8 = sizeof(W) == 1;
    dotted = conv && C < Q, biased = M::BIAS && s.signed_in;
    C4 = (C + Q - 1) / Q, O4 = (N + Q - 1) / Q;
    Hp = most(H + s.top, (zH - 1) * st + k), Wp = most(Wd + s.left, (zW - 1) * st + k);
    y_bytes = dotted ? Wp * C * (i64)sizeof(A) : C4 * Wp * 4, x_bytes = st * (dotted ? C * (i64)sizeof(A) : 4);
    image_bytes = up(Hp * y_bytes + VB, 64);
    Hb = H + k - 1, Wb = Wd + k - 1;
    XQ = (zW + Q - 1) / Q, RS = up(most(XQ * Q + (k - 1) / st + Q, (Wp + st - 1) / st), VL);
    rows_K = up(K, GROWS);
    at_bytes = up((conv ? Hp * C : GROWS + 2 * Q) * st * RS * (i64)sizeof(A), 64);
    ei_bytes = up(N, NB) * zH * XQ * Q * (i64)sizeof(W);
    const i64 sum_max = s.g_bound / B * 1;  // of one sample
    wide = s.g_bound > INT32_MAX, most_images = most<i64>(1, INT32_MAX / most<i64>(1, sum_max));
    back_bytes = up(Hb * O4 * Wb * 4, 64);
    // enough for gradients to stay in their registers for a while, few enough for the second cache
    together = most<i64>(1, least(least<i64>(MOST_TOGETHER, images), least(LONG_SUM / (zH * XQ), CACHE / (at_bytes + ei_bytes))));
    together = least(together, most_images);
    make_places();
    make_weights();
    scratch = new Scratch[net.threads];
    for (i64 t = 0; t < net.threads; t++) make_scratch(scratch[t]);
  }
  ~TileLayer() override { delete[] scratch; }
  const char *path() const override { return Q == 4 ? "tiles of bytes" : "tiles of 16 bits"; }
  i64 room_bytes() const override { return images * image_bytes; }
  int room_fill() const override { return biased ? M::BIAS : 0; }

  void make_places() {
    const i64 run = dotted ? (k * C + Q - 1) / Q : k * C4;  // groups of a kernel's row
    ahead.make(k * run, N), place.make(K), at_offset.make(rows_K);
    for (i64 y = 0; y < k; y++)
      for (i64 t = 0; t < run; t++)
        ahead.offsets[y * run + t] = (i32)(y * y_bytes + (dotted ? 4 * t : (t % C4 * Wp + t / C4) * 4));
    for (i64 i = 0; i < K; i++) {
      i64 c = i % C, x = i / C % k, y = i / C / k;
      place[i] = dotted ? y * run * Q + x * C + c : (y * run + x * C4) * Q + c;
    }
    for (i64 i = 0; i < rows_K; i++) {
      i64 j = least(i, K - 1), c = j % C, x = j / C % k, y = j / C / k;
      at_offset[i] = (((y * C + c) * st + x % st) * RS + x / st) * (i64)sizeof(A);
    }
    if (!sends()) return;
    back.make(k * k * O4, C), back_place.make(K);
    for (i64 i = 0; i < K; i++) back_place[i] = (k * k - 1 - i / C) * O4 * Q;
    for (i64 y = 0; y < k; y++)
      for (i64 x = 0; x < k; x++)
        for (i64 o = 0; o < O4; o++) back.offsets[(y * k + x) * O4 + o] = (i32)(((y * O4 + o) * Wb + x) * 4);
  }
  void make_scratch(Scratch &t) {
    t.z.make(most(s.pool_size, (i64)1) * zW * NB);
    t.codes.make(zW * NB * 2);
    if (s.pool_size) t.spread.make(zH * zW * Np);
    t.ei.make(together * ei_bytes / (i64)sizeof(W));
    t.at.make(together * at_bytes + 4 * VB);
    if (sends()) t.back.make(together * back_bytes, M::BIAS);
    t.G.make(rows_K * Np);
    if (wide) t.wide_G.make(rows_K * Np);
    if (biased) t.e_sum.make(Np), t.e_part.make(Np);
  }

  // --- weights ---
  void put_back(i64 i, i64 o, int was, int is) {
    back.put(back_place[i] + o / Q * Q + o % Q, i % C, was, is, true, net.threads == 1);
  }
  void flip(i64 i, i64 o, int was, int is) override {
    ahead.put(place[i], o, was, is, biased, net.threads == 1);
    if (sends() && rules.feedback == TRANSPOSED) put_back(i, o, was, is);
  }
  void feedback_changed() override {
    if (rules.feedback == RANDOM && sends())
      for (i64 p = 0; p < weights; p++)
        if (feedback[p]) put_back(p / N, p % N, 0, feedback[p]);
  }

  // --- codes in ---
  A *code(u8 *a, i64 b, i64 y, i64 x, i64 c) const {
    A *image = (A *)(a + (conv ? b * image_bytes : 0));
    if (!conv) return image + (c / Q * B + b) * Q + c % Q;
    y += s.top, x += s.left;
    return dotted ? image + (y * Wp + x) * C + c : image + ((y * C4 + c / Q) * Wp + x) * Q + c % Q;
  }
  void get_codes(const u8 *a, i64 n, i16 *out) const override {
    for (i64 b = 0; b < n; b++)
      for (i64 y = 0; y < H; y++)
        for (i64 x = 0; x < (conv ? Wd : 1); x++)
          for (i64 c = 0; c < C; c++) *out++ = (i16)(*code((u8 *)a, b, y, x, c) - (biased ? M::BIAS : 0));
  }
  void set_codes(u8 *a, i64 n, const i16 *in) const override {
    const i16 bias = biased ? M::BIAS : 0;
    const i64 width = conv ? Wd : 1, next = conv ? Wp * 4 : B * 4;
    for (i64 row = 0; row < n * H; row++) {
      A *to = code(a, row / H, row % H, 0, 0);
      if (dotted) {
        for (i64 i = 0; i < Wd * C; i++) to[i] = (A)(*in++ + bias);
        continue;
      }
      for (i64 x = 0; x < width; x++, in += C) {
        u8 *group = (u8 *)(to + x * Q);
        i64 c = 0;
        for (; c + Q <= C; c += Q, group += next) {
          A part[Q];
          for (int j = 0; j < Q; j++) part[j] = (A)(in[c + j] + bias);
          memcpy(group, part, 4);
        }
        for (int j = 0; c + j < C; j++) ((A *)group)[j] = (A)(in[c + j] + bias);
      }
    }
  }
  void encode(Room &room, const u8 *from, i64 n) const override {
    A table[256];
    for (int g = 0; g < 256; g++) table[g] = (A)(net.input_codes[g] + (biased ? M::BIAS : 0));
    parallel(net, n, n * H * Wd * C, [&](i64 b, i64) {
      const u8 *image = from + b * (conv ? H * Wd : 1) * C;
      if (!conv || !dotted) {
        for (i64 y = 0; y < H; y++)
          for (i64 x = 0; x < (conv ? Wd : 1); x++, image += C) {
            u8 *to = (u8 *)code(room.a, b, y, x, 0);
            i64 c = 0;
            for (; c + Q <= C; c += Q, to += conv ? Wp * 4 : B * 4) {
              A four[Q];
              for (int j = 0; j < Q; j++) four[j] = table[image[c + j]];
              memcpy(to, four, 4);
            }
            for (; c < C; c++) *code(room.a, b, y, x, c) = table[image[c]];
          }
        return;
      }
      for (i64 y = 0; y < H; y++, image += Wd * C) {
        A *to = code(room.a, b, y, 0, 0);
        for (i64 i = 0; i < Wd * C; i++) to[i] = table[image[i]];
      }
    });
  }
  void put(Room &room, i64 first, i64 count, const u8 *codes, i64 ld, i64 c0, i64 n) const override {
    net.codes_fit_bytes ? put_in(room, first, count, codes, ld, c0, n) : put_in(room, first, count, (const i16 *)codes, ld, c0, n);
  }
  // Codes of NB channels of four places that lie side by side
  void put_four(u8 *to, const u8 *codes, i64 ld) const {
#if LEVEL
    for (int j = 0; j < NB; j += 16, to += 4 * Wp * 4) {
      const __m128i a = load<__m128i>(codes + j), b = load<__m128i>(codes + ld + j), c = load<__m128i>(codes + 2 * ld + j),
                    d = load<__m128i>(codes + 3 * ld + j);
      const __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
      const __m128i AB = _mm_unpackhi_epi32(a, b), CD = _mm_unpackhi_epi32(c, d);
      store(to, _mm_unpacklo_epi64(ab, cd)), store(to + Wp * 4, _mm_unpackhi_epi64(ab, cd));
      store(to + 2 * Wp * 4, _mm_unpacklo_epi64(AB, CD)), store(to + 3 * Wp * 4, _mm_unpackhi_epi64(AB, CD));
    }
#else
    for (int j = 0; j < NB; j += 4, to += Wp * 4)
      for (int x = 0; x < 4; x++) memcpy(to + 4 * x, codes + x * ld + j, 4);
#endif
  }
  template <class T> void put_in(Room &room, i64 first, i64 count, const T *codes, i64 ld, i64 c0, i64 n) const {
    const i64 places = below->pos, channels = below->N;
    i64 b = first / places, at = first % places;
    for (i64 i = 0; i < count; i++, codes += ld) {
      i64 c = c0, y = 0, x = 0, j = 0;
      if (conv) {
        y = at / Wd, x = at % Wd;
        if (sizeof(T) == 1 && Q == 4 && !dotted && n == NB && c % Q == 0 && x + 4 <= Wd && i + 4 <= count) {
          put_four((u8 *)code(room.a, b, y, x, c), (const u8 *)codes, ld);
          i += 3, codes += 3 * ld, at += 4;
          if (at == places) at = 0, b++;
          continue;
        }
      }
      if (!conv) c += at * channels;
      if (!dotted && c % Q == 0) {
        u8 *to = (u8 *)code(room.a, b, y, x, c);
        for (; j + Q <= n; j += Q, to += conv ? Wp * 4 : B * 4) {
          if (sizeof(T) == sizeof(A))
            memcpy(to, codes + j, 4);
          else {
            A part[Q];
            for (int l = 0; l < Q; l++) part[l] = (A)codes[j + l];
            memcpy(to, part, 4);
          }
        }
      }
      for (; j < n; j++) *code(room.a, b, y, x, c + j) = (A)codes[j];
      if (++at == places) at = 0, b++;
    }
  }

  // --- forward: product, pooling, ReLU, Q_A ---
  void forward(Room &room, i64 n) override {
    const i64 blocks = up(N, NB) / NB, tasks = conv ? (n + together - 1) / together : blocks;
    parallel(net, tasks, n * pos * K * N / 16, [&](i64 task, i64 thread) {
      Scratch &t = scratch[thread];
      if (!conv) return forward_block(room, t, 0, task * NB);
      const i64 first = task * together, last = least(n, first + together);
      for (i64 block = 0; block < blocks; block++)
        for (i64 image = first; image < last; image++) forward_block(room, t, image, block * NB);
    });
  }
  void forward_block(Room &room, Scratch &t, i64 image, i64 column) {
    const i64 size = most(s.pool_size, (i64)1), step = most(s.pool_step, (i64)1), columns = least<i64>(NB, N - column);
    const i64 out_h = conv ? s.out_h : 1, out_w = conv ? s.out_w : B;
    const bool whole = !s.pool_top && !s.pool_left && (s.out_h - 1) * step + size <= s.z_h && (s.out_w - 1) * step + size <= s.z_w;
    i64 next = 0;  // row of Z to be computed
    for (i64 y = 0; y < out_h; y++) {
      const i64 row = y * step - s.pool_top;
      for (next = most(next, row); next < least(zH, row + size); next++)
        any_row<M>(room.a + image * image_bytes + next * st * y_bytes, zW, ahead.offsets, ahead.groups, ahead.block(column),
                   ahead.init + column, t.z + next % size * zW * NB, NB, x_bytes);
      const i64 first = (image * out_h + y) * out_w;
      if (s.is_last) {
        for (i64 b = 0; b < B; b++)
          for (i64 o = 0; o < columns; o++) room.Z[b * N + column + o] = t.z[b * NB + o];
        continue;
      }
      if (net.codes_fit_bytes)
        size == 2 && whole ? activate<u8, 2>(room, t, y, first, column) : size == 1 ? activate<u8, 1>(room, t, y, first, column) : activate<u8, 0>(room, t, y, first, column);
      else
        activate<i16, 0>(room, t, y, first, column);
      above->put(rooms_above(room), first, out_w, t.codes, NB, column, columns);
    }
  }
  Room &rooms_above(Room &room) const { return above->rooms[&room - rooms]; }

  template <class T, int SIZE> void activate(Room &room, Scratch &t, i64 y, i64 first, i64 column) {
    const i64 size = SIZE ? SIZE : most(s.pool_size, (i64)1), step = most(s.pool_step, (i64)1), out_w = conv ? s.out_w : B;
    const i32 top = (1 << (s.k_A - 1)) - 1;
    const int shift = (int)s.z_shift;
    const vi ceiling = all(top << shift);
    T *codes = (T *)t.codes.p;
    const i64 y0 = y * step - s.pool_top, v0 = SIZE ? 0 : most<i64>(0, -y0), v1 = SIZE ? SIZE : least(size, zH - y0);
    for (i64 x = 0; x < out_w; x++)
      for (int half = 0; half < 2; half++) {
        const i64 x0 = x * step - s.pool_left, u0 = SIZE ? 0 : most<i64>(0, -x0), u1 = SIZE ? SIZE : least(size, zW - x0);
        const i32 *z = t.z + x0 * NB + half * VL;
        vi best = load(z + ((y0 + v0) % size * zW + u0) * NB), winner = all((i32)(v0 * size + u0));
        for (i64 v = v0; v < v1; v++)
          for (i64 u = u0 + (v == v0); u < u1; u++) {
            vi other = load(z + ((y0 + v) % size * zW + u) * NB), larger = other > best;
            best = larger ? other : best, winner = larger ? all((i32)(v * size + u)) : winner;
          }
        const i64 at = (first + x) * Np + column + half * VL;
        const vi limit = s.normalised ? load(ceilings + column + half * VL) : ceiling;
        if (s.normalised) best -= load(centres + column + half * VL);
        store_bytes(room.gate + at, -(best > 0) - (best > limit));
        if (SIZE != 1) store_bytes(room.win + at, winner);
        if (s.normalised) {
          const i64 o = column + half * VL;
          const vi down = load(shifts + o);
          best = vmin(vmax(best, -limit), limit);
          best = (best + load(halves + o) + (best >> down & load(odds + o))) >> down;
          store_words(room.u + at, best);
          store_codes(codes + x * NB + half * VL, vmax(best, vi{}));
          continue;
        }
        best = round_shift(vmin(vmax(best, vi{}), ceiling), shift);
        store_codes(codes + x * NB + half * VL, best);
      }
  }

  // --- backward ---
  void backward(Room &room, Room *down, const u8 *a, const u8 *post, bool learns) override {
    for (i64 t = 0; t < net.threads; t++) {
      scratch[t].peak = 0, scratch[t].started = false, scratch[t].images = 0, scratch[t].high = scratch[t].low = vi{};
      if (biased) memset(scratch[t].e_sum, 0, (size_t)Np * 8);
    }
    const i64 work = B * pos * K * N / 8, groups = (images + together - 1) / together;
    if (conv)
      parallel(net, groups, work, [&](i64 group, i64 thread) {
        const i64 first = group * together;
        backward_images(room, down, a, post, learns, first, least(together, images - first), scratch[thread]);
      });
    else
      backward_dense(room, down, a, post, learns, work);
    if (down) {
      down->peak = 0, down->peak_known = true;
      for (i64 t = 0; t < net.threads; t++) down->peak = most(down->peak, scratch[t].peak);
    }
    if (learns) join();
  }
  void backward_images(Room &room, Room *down, const u8 *a, const u8 *post, bool learns, i64 first, i64 n, Scratch &t) {
    for (i64 j = 0; j < n; j++) {
      const i64 b = first + j;
      const W *spread = at_z(room, (const W *)room.E.p, b, t);
      if (down) make_back(spread, t.back + j * back_bytes);
      if (!learns) continue;
      if (post != room.E.p) spread = at_z(room, (const W *)post, b, t);
      make_ei(spread, (W *)((u8 *)t.ei.p + j * ei_bytes));
      make_at(a + b * image_bytes, 0, C4, t.at + j * at_bytes);
      if (biased) add_errors((const W *)post + b * pos * Np, pos, t);
    }
    if (down)
      for (i64 column = 0; column < C; column += NB)
        for (i64 j = 0; j < n; j++) send_back(*down, t.back + j * back_bytes, first + j, column, t);
    if (!learns) return;
    if (wide && t.images + n > most_images) flush(t);
    for (i64 column = 0; column < N; column += NB)
      for (i64 i = 0; i < K; i += GROWS)
        gradient_tile<M>(t.at, at_offset + i, at_bytes, st * C * st * RS * (i64)sizeof(A), (const u8 *)(t.ei + column * zH * XQ * Q),
                         ei_bytes, n, zH, XQ, t.G + i * Np + column, Np, !t.images);
    t.images += n;
  }
  void add_errors(const W *E, i64 rows, Scratch &t) const {
    i32 *__restrict sum = t.e_part;
    const i64 n = Np;
    memset(sum, 0, (size_t)n * 4);
    for (i64 i = 0; i < rows; i++, E += n)
      for (i64 o = 0; o < n; o++) sum[o] += E[o];
    for (i64 o = 0; o < n; o++) t.e_sum[o] += sum[o];
  }
  void backward_dense(Room &room, Room *down, const u8 *a, const u8 *post, bool learns, i64 work) {
    Scratch &own = scratch[0];
    if (down) {
      make_back((const W *)room.E.p, own.back);
      parallel(net, up(C, NB) / NB, work, [&](i64 block, i64 thread) { send_back(*down, own.back, 0, block * NB, scratch[thread]); });
    }
    if (!learns) return;
    make_ei((const W *)post, own.ei);
    if (biased) add_errors((const W *)post, B, own);
    own.images = 1;
    parallel(net, rows_K / GROWS, work, [&](i64 block, i64 thread) {
      const i64 i = block * GROWS, c4 = i / Q;
      i64 offsets[GROWS];
      for (int r = 0; r < GROWS; r++) offsets[r] = (least(i + r, K - 1) - c4 * Q) * RS * (i64)sizeof(A);
      make_at(a, c4, least(C4, (i + GROWS + Q - 1) / Q), scratch[thread].at);
      for (i64 column = 0; column < N; column += NB) {
        i32 *G = own.G + i * Np + column;
        gradient_tile<M>(scratch[thread].at, offsets, 0, 0, (const u8 *)(own.ei + column * XQ * Q), 0, 1, 1, XQ, G, Np, true);
        scratch[thread].gradients(G, GROWS, Np);
      }
    });
  }

  // Error at each place of Z: that of the windows which chose it.
  __attribute__((noinline)) const W *at_z(Room &room, const W *E, i64 b, Scratch &t) {
    E += b * pos * Np;
    if (!s.pool_size) return E;
    typedef W codes __attribute__((vector_size(NB * sizeof(W))));
    typedef u8 places __attribute__((vector_size(NB)));
    const i64 size = s.pool_size, step = s.pool_step, width = Np, row = zW * Np;
    const bool apart = step >= size, whole = step == size && s.out_h * size == zH && s.out_w * size == zW;
    const bool inside = !s.pool_top && !s.pool_left && (s.out_h - 1) * step + size <= zH && (s.out_w - 1) * step + size <= zW;
    if (!whole) memset(t.spread, 0, (size_t)(zH * row) * sizeof(W));
    const u8 *win = room.win + b * pos * width;
    for (i64 y = 0; y < s.out_h; y++)
      for (i64 x = 0; x < s.out_w; x++) {
        const i64 y0 = y * step - s.pool_top, x0 = x * step - s.pool_left;
        W *corner = t.spread + y0 * row + x0 * width;
        for (i64 o = 0; o < width; o += NB, E += NB, win += NB) {
          const codes e = load<codes>(E);
          const places chosen = load<places>(win);
          u8 place = 0;
          for (i64 v = 0; v < size; v++)
            for (i64 u = 0; u < size; u++, place++) {
              if (!inside && (y0 + v < 0 || y0 + v >= zH || x0 + u < 0 || x0 + u >= zW)) continue;
              W *to = corner + v * row + u * width + o;
              codes part = __builtin_convertvector(chosen == place, codes) & e;
              store(to, apart ? part : part + load<codes>(to));
            }
        }
      }
    return t.spread;
  }
  __attribute__((noinline)) void make_back(const W *E, u8 *to) const {
    for (i64 y = 0; y < zH; y++)
      for (i64 x = 0; x < zW; x++, E += Np) {
        u8 *q = to + ((y * st + k - 1 - s.top) * O4 * Wb + x * st + k - 1 - s.left) * 4;
        for (i64 o = 0; o < O4; o++, q += Wb * 4) store(q, load<u32>(E + o * Q) ^ (M::BIAS ? 0x80808080u : 0u));
      }
  }
  __attribute__((noinline)) void make_ei(const W *E, W *to) const {
    for (i64 column = 0; column < N; column += NB)
      for (i64 y = 0; y < zH; y++) {
        const W *row = E + y * zW * Np + column;
        for (i64 x = 0; x < zW; x += Q, row += Q * Np)
          for (int v = 0; v < 2; v++, to += VB / sizeof(W)) {
            vu sum = {};
            if (x + Q <= zW)
#pragma GCC unroll 4
              for (int j = 0; j < Q; j++) sum |= load_codes(row + j * Np + v * VL) << (32 / Q * j);
            else
              for (int j = 0; x + j < zW; j++) sum |= load_codes(row + j * Np + v * VL) << (32 / Q * j);
            store(to, sum);
          }
      }
  }
  // Codes of channels Q * first .. Q * last along rows, [y][c][x % st][x / st]
  __attribute__((noinline)) void make_at(const u8 *a, i64 first, i64 last, u8 *to) const {
    A *at = (A *)to;
    if (dotted && st == 1) {
      const A *image = (const A *)a;
      for (i64 y = 0; y < Hp; y++, image += Wp * C)
        for (i64 c = 0; c < C; c++, at += RS)
          for (i64 x = 0; x < Wp; x++) at[x] = image[x * C + c];
      return;
    }
    if (dotted || st > 1) {
      for (i64 y = 0; y < Hp; y++)
        for (i64 c = 0; c < C; c++)
          for (i64 x = 0; x < Wp; x++) {
            const A *image = (const A *)a;
            at[((y * C + c) * st + x % st) * RS + x / st] =
                dotted ? image[(y * Wp + x) * C + c] : image[((y * C4 + c / Q) * Wp + x) * Q + c % Q];
          }
      return;
    }
    const i64 height = conv ? Hp : 1, width = conv ? Wp : B, channels = conv ? C : (last - first) * Q;
    for (i64 y = 0; y < height; y++)
      for (i64 c4 = first; c4 < last; c4++) {
        const u8 *q = a + (y * C4 + c4) * width * 4;
        const i64 c = (c4 - first) * Q;
        for (i64 x = 0; x < width; x += VL) {
          vu four = load<vu>(q + 4 * x);
          A *row = at + (y * channels + c) * RS + x;
          if (c + Q <= channels)
#pragma GCC unroll 4
            for (int j = 0; j < Q; j++) store_codes(row + j * RS, (vi)(four >> (32 / Q * j)));
          else
            for (int j = 0; c + j < channels; j++) store_codes(row + j * RS, (vi)(four >> (32 / Q * j)));
        }
      }
  }
  // Errors of NB inputs, of all places of an image or of the batch, and their peak
  void send_back(Room &down, const u8 *errors, i64 image, i64 column, Scratch &t) {
    const Layer &to = *below;
    const i64 each = to.pos * to.Np;
    i32 *D = (i32 *)down.D.p;
    const u8 *gate = down.gate.p;
    if (conv) {
      D += image * each + column, gate += image * each + column;
      for (i64 y = 0; y < H; y++, D += Wd * to.Np, gate += Wd * to.Np) {
        for (i64 x = 0; x < Wd; x++) {
          __builtin_prefetch(gate + x * to.Np);
          for (int v = 0; v < NB; v += 16) __builtin_prefetch(D + x * to.Np + v, 1);
        }
        row<M, 4>(errors + y * O4 * Wb * 4, Wd, back.offsets, back.groups, back.block(column), back.init + column, D, to.Np, 4);
        t.peak = most(t.peak, to.peak_of_rows(D, gate, Wd, to.Np));
      }
      return;
    }
    if (to.pos == 1 || to.N == to.Np) {
      row<M, 4>(errors, B, back.offsets, back.groups, back.block(column), back.init + column, D + column, each, 4);
      t.peak = most(t.peak, to.peak_of_rows(D + column, gate + column, B, each));
      return;
    }
    row<M, 4>(errors, B, back.offsets, back.groups, back.block(column), back.init + column, t.z, NB, 4);
    for (i64 b = 0; b < B; b++)
      for (i64 i = column; i < least(C, column + NB); i++) {
        const i64 place = b * each + i / to.N * to.Np + i % to.N, d = D[place] = t.z[b * NB + i - column];
        if (gate[place] != SATURATED) t.peak = most(t.peak, d < 0 ? -d : d);
      }
  }

  // --- gradients of the threads together, and the update ---
  void unbias(Scratch &t) {
    if (!biased) return;
    for (i64 i = 0; i < rows_K; i++)
      for (i64 o = 0; o < Np; o++) t.G[i * Np + o] = (i32)((u32)t.G[i * Np + o] - (u32)(M::BIAS * t.e_sum[o]));
    memset(t.e_sum, 0, (size_t)Np * 8);
  }
  void flush(Scratch &t) {
    if (!t.images) return;
    unbias(t);
    for (i64 i = 0; i < rows_K * Np; i++) t.wide_G[i] = (t.started ? t.wide_G[i] : 0) + t.G[i];
    t.started = true, t.images = 0;
  }
  void join() {
    Scratch &own = scratch[0];
    for (i64 t = 0; t < net.threads; t++) wide ? flush(scratch[t]) : unbias(scratch[t]);
    for (i64 t = 0; t < net.threads; t++) {
      Scratch &other = scratch[t];
      bool holds = wide ? other.started : other.images > 0, first = !(wide ? own.started : own.images > 0);
      if (!t || !holds) continue;
      if (first && wide) memset(own.wide_G, 0, (size_t)(rows_K * Np) * 8);
      if (first && !wide) memset(own.G, 0, (size_t)(rows_K * Np) * 4);
      own.started = true, own.images = 1;
      parallel(net, rows_K, rows_K * Np, [&](i64 i, i64) {
        for (i64 o = i * Np; o < (i + 1) * Np; o++)
          if (wide)
            own.wide_G[o] += other.wide_G[o];
          else
            own.G[o] += other.G[o];
      });
    }
  }
  void update(const u8 *, const u8 *, u64 step) override { wide ? update_from(scratch[0].wide_G.p, step) : update_from(scratch[0].G.p, step); }
  void sums(u64 step) override { wide ? sums_of(scratch[0].wide_G.p, step) : sums_of(scratch[0].G.p, step); }
  template <class T> void sums_of(const T *G, u64 step) {
    if (N == Np) return tell_sums(*this, G, step);
    Buf<T> rows;
    rows.make(weights);
    for (i64 i = 0; i < K; i++) memcpy(rows + i * N, G + i * Np, (size_t)N * sizeof(T));
    tell_sums(*this, rows.p, step);
  }
  i64 peak_of_all(const i32 *G) {
    i64 top = 0;
    if (conv || biased) {  // those of one thread, or with the bias, tell nothing
      for (i64 t = 0; t < net.threads; t++) scratch[t].high = scratch[t].low = vi{};
      scratch[0].gradients(G, rows_K * Np / NB, NB);
    }
    for (i64 t = 0; t < net.threads; t++) top = most(top, scratch[t].peak_of_gradients());
    return top;
  }
  i64 peak_of_all(const i64 *G) {
    i64 high = 0, low = 0;
    for (i64 i = 0; i < rows_K * Np; i++) high = most(high, G[i]), low = least(low, G[i]);
    return most(high, -low);
  }
  template <class T> void update_from(const T *G, u64 step) {
    i64 shift;
    if (!shift_of(peak_of_all(G), &shift)) return;
    const i64 groups = (weights + GROUP - 1) / GROUP, tasks = least<i64>(groups, 4 * net.threads);
    parallel(net, tasks, weights * 4, [&](i64 task, i64) {
      Mover mover(*this, step, shift);
      alignas(64) T g[GROUP];
      for (i64 group = groups * task / tasks; group < groups * (task + 1) / tasks; group++) {
        i64 p = group * GROUP;
        if (N == Np && p + GROUP <= weights) {
          mover.add(p, G + p);
          continue;
        }
        i64 i = p / N, o = p % N;
        for (int j = 0; j < GROUP; j++) {
          g[j] = p + j < weights ? G[i * Np + o] : (T)0;
          if (++o == N) o = 0, i++;
        }
        mover.add(p, (const T *)g);
      }
    });
  }
};

}  // namespace
