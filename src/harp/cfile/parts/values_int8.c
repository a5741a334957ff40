/* Eight bits, times one scale for each output, of which the upper half of a float is stored. */
typedef int8_t stored_weight;

static float weight_of(const struct weights* weights, stored_weight value, int32_t output) {
  union {
    uint32_t bits;
    float value;
  } scale;
  scale.bits = (uint32_t)weights->scales[output] << 16;
  return (float)value * scale.value;
}
