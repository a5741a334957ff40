/* Runs a network on every image of images.bin, on an emulated Cortex-M4 without an operating system, and prints through
 * the debugger's door (semihosting): one line of results per image as the bits of floats, the ticks of the clock per
 * image, of a loop whose instructions are known, and the bytes of stack. */
#include <stdint.h>

void network_run(const float* image, float* result);

extern const float images[];
extern uint32_t data_begin[], data_end[], data_stored[], bss_begin[], bss_end[], stack_top[];

#define REGISTER(address) (*(volatile uint32_t*)(address))
#define PAINT 0xDEADBEEFu
#define PAINTED_WORDS 16384
#define LOOPS 1000000u

static float result[OUTPUTS];

static int host(int operation, const void* argument) {
  register int r0 __asm__("r0") = operation;
  register const void* r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static void print(const char* text) { host(0x04, text); }

static void print_hex(uint32_t value) {
  char text[10];
  int i;
  for (i = 0; i < 8; i++) text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
  text[8] = ' ';
  text[9] = 0;
  print(text);
}

/* The clock counts down from 2^24, 25 times per microsecond. */
static uint32_t now(void) { return REGISTER(0xE000E018); }

static uint32_t since(uint32_t begin) { return (begin - now()) & 0xFFFFFF; }

/* Two instructions each time. */
static uint32_t ticks_of_loop(void) {
  uint32_t left = LOOPS, begin = now();
  __asm__ volatile("1: subs %0, #1\n bne 1b" : "+r"(left) : : "cc");
  return since(begin);
}

static uint32_t* paint(void) {
  uint32_t* lowest = stack_top - PAINTED_WORDS;
  uint32_t* here = (uint32_t*)__builtin_frame_address(0) - 64;
  uint32_t* word;
  for (word = lowest; word < here; word++) *word = PAINT;
  return here;
}

__attribute__((noinline)) static uint32_t stack_of_run(void) {
  const uint32_t* here = paint();
  const uint32_t* word = stack_top - PAINTED_WORDS;
  network_run(images, result);
  while (word < here && *word == PAINT) word++;
  return (uint32_t)((const char*)(here + 64) - (const char*)word);
}

static void run_all(void) {
  int image, i;
  for (image = 0; image < COUNT; image++) {
    uint32_t begin = now(), ticks;
    network_run(images + image * INPUTS, result);
    ticks = since(begin);
    for (i = 0; i < OUTPUTS; i++) {
      union {
        float value;
        uint32_t bits;
      } shown;
      shown.value = result[i];
      print_hex(shown.bits);
    }
    print_hex(ticks);
    print("\n");
  }
}

void start(void) {
  uint32_t* word;
  for (word = data_begin; word < data_end; word++) *word = data_stored[word - data_begin];
  for (word = bss_begin; word < bss_end; word++) *word = 0;
  REGISTER(0xE000ED88) |= 0xFu << 20; /* the floating-point unit on */
  __asm__ volatile("dsb\n isb");
  REGISTER(0xE000E014) = 0xFFFFFF;
  REGISTER(0xE000E018) = 0;
  REGISTER(0xE000E010) = 5; /* the processor's clock, without interrupts */
  print_hex(ticks_of_loop());
  print_hex(stack_of_run());
  print("\n");
  run_all();
  host(0x18, (const void*)0x20026);
  for (;;) {
  }
}

static void fault(void) {
  print("fault\n");
  host(0x18, (const void*)0x20023);
  for (;;) {
  }
}

__attribute__((section(".vectors"), used)) static const void* const vectors[] = {
    stack_top,          (const void*)start, (const void*)fault, (const void*)fault,
    (const void*)fault, (const void*)fault, (const void*)fault};
