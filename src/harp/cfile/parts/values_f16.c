/* Half precision: a sign, 5 bits of exponent, 10 of mantissa. No type of C99 has it. */
typedef uint16_t stored_weight;

static float weight_of(const struct weights* weights, stored_weight value, int32_t output) {
  union {
    uint32_t bits;
    float value;
  } single;
  const uint32_t sign = (uint32_t)(value & 0x8000u) << 16, rest = value & 0x7fffu;
  (void)weights;
  (void)output;
  if (rest < 0x0400u) {                                  /* below the smallest normal number: a multiple of 2^-24 */
    single.value = (float)rest * (1.0f / 16777216.0f);
    single.bits |= sign;
  } else {
    single.bits = sign | ((rest << 13) + ((127u - 15u) << 23));
  }
  return single.value;
}
