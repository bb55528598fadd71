/* @about@ */
#include "@prefix@.h"

enum { LAYERS = @layers@, WIDTH = @width@, BUFFER = @buffer@, TOP = @activation_max@ };

struct layer {
    uint32_t h, w, c, kernel, stride, top, left, z_h, z_w, n; /* the product: n channels at z_h x z_w places */
    uint32_t pool, step, pool_top, pool_left, out_h, out_w;   /* pool 1: none */
    uint32_t z_shift, weights, in, out;                       /* offsets: of weights, activations */
};

static const struct layer layers[LAYERS] = {
@table@
};

const int8_t @prefix@_input_codes[256] = {
@input_codes@
};

static struct {
    int32_t sum[WIDTH], best[WIDTH];
/*@learn*/    int32_t d[WIDTH];
    int8_t e[WIDTH];
    uint8_t flags[BUFFER];
/*learn@*/    int8_t a[BUFFER];
} ram;
/*@inference*/
/* Two bits a weight, four a byte, the first in the lowest bits: 00 is 0, 01 is 1, 11 is -1. */
static const uint8_t weights[] = {
@weight_bytes@
};

static int32_t weight(const struct layer *y, uint32_t i)
{
    uint32_t code = (uint32_t)weights[y->weights + i / 4] >> 2 * (i % 4);
    return (int32_t)(code & 1) - (int32_t)(code & 2);
}
/*inference@*//*@learn*/
enum {
    ERROR_MAX = @error_max@, K_E = @k_E@, STORED_MAX = @stored_max@, HALF_WEIGHT = @half_weight@,
    HELD = @held@, HOLD = @hold@, ONE_SIDED = @one_sided@, MARGIN = @margin@, LOG2_GAMMA = @log2_gamma@,
    ACTIVE = 1, SATURATED = 2
};

static const int32_t target = @target@;

struct @prefix@_state @prefix@_state = {
    UINT64_C(@step@),
    {@error_held@},
    {@gradient_held@},
    {
@stored@
    }
};

/* The ternary weight of a stored one: a half goes to even, to 0. */
static int32_t weight(const struct layer *y, uint32_t i)
{
    int32_t s = @prefix@_state.stored[y->weights + i];
    return (s > HALF_WEIGHT) - (s < -HALF_WEIGHT);
}
/*learn@*/
/* x / 2^shift, halves to even. */
static uint32_t round_shift(uint32_t x, uint32_t shift)
{
    uint32_t q, rest, half;
    if (shift == 0)
        return x;
    q = x >> shift;
    rest = x - (q << shift);
    half = UINT32_C(1) << (shift - 1);
    return q + (rest > half || (rest == half && q % 2 == 1));
}

/* ram.sum = the products at one place of Z. */
static void sum_up(const struct layer *y, const int8_t *a, uint32_t z_y, uint32_t z_x)
{
    uint32_t k_y, k_x, c, j;
    for (j = 0; j < y->n; j++)
        ram.sum[j] = 0;
    for (k_y = 0; k_y < y->kernel; k_y++)
        for (k_x = 0; k_x < y->kernel; k_x++) {
            /* in padding the place wraps past h or w */
            uint32_t in_y = z_y * y->stride + k_y - y->top, in_x = z_x * y->stride + k_x - y->left;
            if (in_y >= y->h || in_x >= y->w)
                continue;
            for (c = 0; c < y->c; c++) {
                int32_t value = a[(in_y * y->w + in_x) * y->c + c];
                uint32_t first = ((k_y * y->kernel + k_x) * y->c + c) * y->n;
                if (value != 0)
                    for (j = 0; j < y->n; j++)
                        ram.sum[j] += value * weight(y, first + j);
            }
        }
}

/* ram.best = the largest products of one window. */
static void choose(const struct layer *y, const int8_t *a, uint32_t out_y, uint32_t out_x)
{
    uint32_t p_y, p_x, j;
    for (j = 0; j < y->n; j++)
        ram.best[j] = INT32_MIN;
    for (p_y = 0; p_y < y->pool; p_y++)
        for (p_x = 0; p_x < y->pool; p_x++) {
            uint32_t z_y = out_y * y->step + p_y - y->pool_top, z_x = out_x * y->step + p_x - y->pool_left;
            if (z_y >= y->z_h || z_x >= y->z_w)
                continue;
            sum_up(y, a, z_y, z_x);
            for (j = 0; j < y->n; j++)
                if (ram.sum[j] > ram.best[j])
                    ram.best[j] = ram.sum[j];
        }
}

static void activate(const struct layer *y, uint32_t at)
{
    uint32_t j, q;
    for (j = 0; j < y->n; j++) {
        int32_t z = ram.best[j];
        q = z > 0 ? round_shift((uint32_t)z, y->z_shift) : 0;
        ram.a[at + j] = (int8_t)(q > TOP ? TOP : q);
/*@learn*/        ram.flags[at + j] =
            (uint8_t)((z > 0 ? ACTIVE : 0) | (z > (int32_t)(UINT32_C(@activation_max@) << y->z_shift) ? SATURATED : 0));
/*learn@*/    }
}

void @prefix@_predict(const int8_t *codes, int32_t *logits)
{
    uint32_t i, out_y, out_x, j;
    for (i = 0; i < LAYERS; i++) {
        const struct layer *y = &layers[i];
        for (out_y = 0; out_y < y->out_h; out_y++)
            for (out_x = 0; out_x < y->out_w; out_x++) {
                choose(y, i ? ram.a + y->in : codes, out_y, out_x);
                if (i + 1 < LAYERS)
                    activate(y, y->out + (out_y * y->out_w + out_x) * y->n);
            }
    }
    for (j = 0; j < @PREFIX@_CLASSES; j++)
        logits[j] = ram.best[j];
}
/*@learn*/
static uint32_t magnitude(int32_t x)
{
    return x < 0 ? 0 - (uint32_t)x : (uint32_t)x;
}

/* round(log2 x) of x >= 1: the bits of its square, halved. */
static int32_t log2_round(uint32_t x)
{
    uint64_t square = (uint64_t)x * x;
    int32_t bits = 0;
    for (; square; square >>= 1)
        bits++;
    return bits / 2;
}

/* The exponent for a value of this peak, -1 for none; what is held moves on. */
static int32_t exponent_of(struct @prefix@_held *held, uint32_t peak)
{
    int32_t own = peak ? log2_round(peak) : -1, before = held->exponent;
    if (!HELD)
        return own;
    if (peak == 0)
        return before;
    if (before < 0 || own >= before) {
        held->exponent = own;
        held->below = 0;
    } else if (++held->below >= HOLD) {
        held->exponent--;
        held->below = 0;
    }
    return before;
}

/* ram.d = the loss's derivative by Z. */
static void output_error(const int32_t *z, uint32_t label)
{
    uint32_t j;
    int64_t lead = z[label];
    int32_t other = INT32_MIN;
    for (j = 0; j < @PREFIX@_CLASSES; j++) {
        ram.d[j] = z[j] - (j == label ? target : 0);
        if (ONE_SIDED && (j == label ? ram.d[j] > 0 : ram.d[j] < 0))
            ram.d[j] = 0;
        if (j != label && z[j] > other)
            other = z[j];
    }
    if (@PREFIX@_CLASSES > 1)
        lead -= other;
    if (MARGIN > 0 && lead * @margin_units@ >= (int64_t)MARGIN * target)
        for (j = 0; j < @PREFIX@_CLASSES; j++)
            ram.d[j] = 0;
}

/* ram.e = the error's codes, from ram.d: masked where saturated, scaled, masked where ReLU was silent. */
static void receive_error(uint32_t i)
{
    const struct layer *y = &layers[i];
    const uint8_t *flags = i + 1 < LAYERS ? ram.flags + y->out : 0;
    uint32_t j, peak = 0;
    int32_t m, shift;
    for (j = 0; j < y->n; j++) {
        if (flags && (flags[j] & SATURATED))
            ram.d[j] = 0;
        if (magnitude(ram.d[j]) > peak)
            peak = magnitude(ram.d[j]);
    }
    m = exponent_of(&@prefix@_state.error[i], peak);
    shift = m - LOG2_GAMMA - (K_E - 1);
    for (j = 0; j < y->n; j++) {
        uint32_t x = magnitude(ram.d[j]);
        if (shift >= 0)
            x = round_shift(x, (uint32_t)shift);
        else
            x = (x > ERROR_MAX ? ERROR_MAX : x) << -shift;
        if (m < 0 || (flags && !(flags[j] & ACTIVE)))
            x = 0;
        if (x > ERROR_MAX)
            x = ERROR_MAX;
        ram.e[j] = (int8_t)(ram.d[j] < 0 ? -(int32_t)x : (int32_t)x);
    }
}

/* ram.d = the error of the layer below. */
static void send_error(const struct layer *y)
{
    uint32_t i, j;
    for (i = 0; i < y->c; i++) {
        int32_t d = 0;
        for (j = 0; j < y->n; j++)
            d += ram.e[j] * weight(y, i * y->n + j);
        ram.d[i] = d;
    }
}

static uint64_t high_product(uint64_t a, uint64_t b)
{
    uint64_t mask = UINT32_C(0xffffffff), low = (a & mask) * (b & mask);
    uint64_t mid = (a >> 32) * (b & mask) + (low >> 32), cross = (a & mask) * (b >> 32) + (mid & mask);
    return (a >> 32) * (b >> 32) + (mid >> 32) + (cross >> 32);
}

/* Philox4x64-10 (Salmon et al., SC 2011): 64 bits a word, 4 words a block; numpy counts blocks from 1. */
static void random_block(uint32_t layer, uint64_t block, uint64_t *word)
{
    uint64_t key[2] = {UINT64_C(@seed@), @update@};
    int round;
    word[0] = block + 1;
    word[1] = @prefix@_state.step;
    word[2] = layer;
    word[3] = 0;
    for (round = 0; round < 10; round++) {
        uint64_t a = UINT64_C(0xd2e7470ee14c6c93), b = UINT64_C(0xca5a826395121157), x = word[0], z = word[2];
        word[0] = high_product(b, z) ^ word[1] ^ key[0];
        word[1] = b * z;
        word[2] = high_product(a, x) ^ word[3] ^ key[1];
        word[3] = a * x;
        key[0] += UINT64_C(0x9e3779b97f4a7c15);
        key[1] += UINT64_C(0xbb67ae8584caa73b);
    }
}

/* floor(gradient 2^shift), 2^16 at most: a whole step. */
static uint32_t quotient(uint32_t gradient, int32_t shift)
{
    if (shift < 0)
        return shift > -32 ? gradient >> -shift : 0;
    if (shift > 16 || gradient << shift > UINT32_C(0x10000))
        return UINT32_C(0x10000);
    return gradient << shift;
}

static uint32_t largest(const int8_t *x, uint32_t n)
{
    uint32_t i, most = 0;
    for (i = 0; i < n; i++)
        if (magnitude(x[i]) > most)
            most = magnitude(x[i]);
    return most;
}

/* Ternary steps: sgn(a e) (q + r >> 16), r 16 random bits a weight. */
static void update(uint32_t number, const int8_t *a, int32_t log2_eta)
{
    const struct layer *y = &layers[number];
    int8_t *stored = @prefix@_state.stored + y->weights;
    uint64_t word[4] = {0, 0, 0, 0}, drawn = UINT64_MAX;
    uint32_t i, j, peak = largest(a, y->c) * largest(ram.e, y->n);
    int32_t m = exponent_of(&@prefix@_state.gradient[number], peak);
    if (m < 0)
        return;
    for (i = 0; i < y->c; i++)
        for (j = 0; j < y->n && a[i] != 0; j++) {
            uint32_t at = i * y->n + j;
            int32_t g = a[i] * ram.e[j];
            uint32_t q = quotient(magnitude(g), 16 + log2_eta - m);
            if (q == 0)
                continue;
            if (q < UINT32_C(0x10000)) { /* a whole step is one whatever is drawn */
                if (drawn != at / 16)
                    random_block(number, drawn = at / 16, word);
                q = (q + (uint32_t)(word[at / 4 % 4] >> 16 * (at % 4) & 0xffff)) >> 16;
            }
            if (q != 0 && g > 0 && stored[at] > -STORED_MAX)
                stored[at]--;
            if (q != 0 && g < 0 && stored[at] < STORED_MAX)
                stored[at]++;
        }
}

void @prefix@_learn(const int8_t *codes, uint32_t label, int32_t log2_eta, int32_t *logits)
{
    uint32_t i;
    @prefix@_predict(codes, logits);
    output_error(logits, label);
    for (i = LAYERS; i-- > 0;) {
        receive_error(i);
        if (i > 0)
            send_error(&layers[i]);
        update(i, i > 0 ? ram.a + layers[i].in : codes, log2_eta);
    }
    @prefix@_state.step++;
}
/*learn@*/
/* The bytes that the header promises, proven when this is compiled. */
typedef char ram_bytes_as_promised[sizeof ram@and_state@ == @PREFIX@_RAM_BYTES ? 1 : -1];
