#include "names.h"

#include <map>
#include <stdexcept>

namespace harp {
namespace {

const std::map<std::string, Kind> KINDS{{"conv", Kind::conv},
                                        {"activation", Kind::activation},
                                        {"affine", Kind::affine},
                                        {"max_pool", Kind::max_pool},
                                        {"avg_pool", Kind::avg_pool},
                                        {"adaptive_avg_pool", Kind::adaptive_pool},
                                        {"add", Kind::add},
                                        {"mul", Kind::multiply},
                                        {"concat", Kind::concat},
                                        {"flatten", Kind::flatten},
                                        {"softmax", Kind::softmax},
                                        {"channels", Kind::channels},
                                        {"normalise", Kind::normalise},
                                        {"constant", Kind::constant},
                                        {"pack", Kind::pack},
                                        {"unpack", Kind::unpack},
                                        {"copy", Kind::copy},
                                        {"pairwise", Kind::pairwise},
                                        {"elementwise", Kind::elementwise},
                                        {"rows_softmax", Kind::rows_softmax},
                                        {"rows_normalise", Kind::rows_normalise},
                                        {"rows_reduce", Kind::rows_reduce},
                                        {"matmul", Kind::matmul}};

const std::map<std::string, Activation> ACTIVATIONS{{"none", Activation::none},
                                                    {"relu", Activation::relu},
                                                    {"relu6", Activation::relu6},
                                                    {"leaky_relu", Activation::leaky},
                                                    {"sigmoid", Activation::sigmoid},
                                                    {"silu", Activation::silu},
                                                    {"hardswish", Activation::hardswish},
                                                    {"hardsigmoid", Activation::hardsigmoid},
                                                    {"gelu", Activation::gelu},
                                                    {"gelu_tanh", Activation::gelu_tanh},
                                                    {"tanh", Activation::tanh},
                                                    {"elu", Activation::elu},
                                                    {"mish", Activation::mish},
                                                    {"softplus", Activation::softplus},
                                                    {"exp", Activation::exp},
                                                    {"log", Activation::log},
                                                    {"sqrt", Activation::sqrt},
                                                    {"rsqrt", Activation::rsqrt},
                                                    {"abs", Activation::abs},
                                                    {"sin", Activation::sin},
                                                    {"cos", Activation::cos},
                                                    {"erf", Activation::erf},
                                                    {"power", Activation::power},
                                                    {"at_least", Activation::at_least},
                                                    {"at_most", Activation::at_most}};

template <class V>
const V& lookup(const std::map<std::string, V>& table, const std::string& name) {
  const auto found = table.find(name);
  if (found == table.end()) throw std::invalid_argument("the engine has no " + name);
  return found->second;
}

}  // namespace

Kind kind_named(const std::string& name) { return lookup(KINDS, name); }

Activation activation_named(const std::string& name) { return lookup(ACTIVATIONS, name); }

}  // namespace harp
