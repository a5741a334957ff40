/* The larger one; NaN, if one of them is. */
static float larger(float a, float b) { return b > a || b != b ? b : a; }
