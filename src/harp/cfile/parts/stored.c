/* The weights of one layer that are not zero, in the order (output, input). */
struct weights {
  const uint8_t* gaps; /* the zeros before each; 255 is 255 zeros without a weight behind them; 0: there are no zeros */
  const void* values;
  const uint16_t* scales; /* of 8-bit values, for each output */
  const float* bias;
  uint32_t count;
};
