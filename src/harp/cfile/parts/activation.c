typedef void (*activation)(float* x, int32_t count, float slope);
