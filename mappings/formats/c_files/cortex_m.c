/* Bare Cortex-M around a network that learns: counts instructions by SysTick, tells by semihosting. */
#include "net.h"
#include "samples.h" /* SAMPLES, LOG2_ETA, codes, labels */

void reset(void);
void *memset(void *to, int value, __SIZE_TYPE__ n);
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n);

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[2] = {0x20400000, (uintptr_t)reset};

void *memset(void *to, int value, __SIZE_TYPE__ n)
{
    volatile unsigned char *p = to;
    while (n--)
        *p++ = (unsigned char)value;
    return to;
}

void *memcpy(void *to, const void *from, __SIZE_TYPE__ n)
{
    volatile unsigned char *p = to;
    const unsigned char *q = from;
    while (n--)
        *p++ = *q++;
    return to;
}

static void host(uintptr_t call, uintptr_t argument)
{
    register uintptr_t r0 __asm__("r0") = call;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void tell(const char *name, const void *data, uint32_t n)
{
    static char text[4096];
    const uint8_t *bytes = data;
    uint32_t i, at = 0;
    host(4, (uintptr_t)name);
    for (i = 0; i < n; i++) {
        text[at++] = "0123456789abcdef"[bytes[i] >> 4];
        text[at++] = "0123456789abcdef"[bytes[i] & 15];
        if (at > sizeof text - 4 || i + 1 == n) {
            text[at] = 0;
            host(4, (uintptr_t)text);
            at = 0;
        }
    }
    host(4, (uintptr_t) "\n");
}

#define SYSTICK ((volatile uint32_t *)0xe000e010)
static uint32_t ticks(void)
{
    return 0xffffff - SYSTICK[2];
}

static int32_t logits[SAMPLES * NET_CLASSES];

void reset(void)
{
    uint32_t i, start, took[3], loops = 1000000;
    SYSTICK[1] = 0xffffff;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    while (SYSTICK[2] == 0) /* it starts from its reload value at its first tick */
        ;
    start = ticks();
    __asm__ volatile("1: subs %0, #1\n bne 1b" : "+r"(loops) : : "cc"); /* 2,000,000 instructions */
    took[0] = ticks() - start;
    start = ticks();
    for (i = 0; i < SAMPLES; i++)
        net_predict(codes + i * NET_INPUTS, logits + i * NET_CLASSES);
    took[1] = ticks() - start;
    start = ticks();
    for (i = 0; i < SAMPLES; i++)
        net_learn(codes + i * NET_INPUTS, labels[i], LOG2_ETA, logits + i * NET_CLASSES);
    took[2] = ticks() - start;
    tell("ticks ", took, sizeof took);
    tell("logits ", logits, sizeof logits);
    tell("state ", &net_state, sizeof net_state);
    host(0x18, 0x20026); /* the application ends */
    for (;;)
        ;
}
