//! One rule per operator: from the gradients of a node's outputs to those of its inputs.
//!
//! A rule is a function that writes nodes through the [`Emitter`] and answers `(input, gradient)` pairs for the inputs
//! that [`Call::wants`]. To teach the differentiator an operator, write such a function and put it in [`RULES`].

mod conv;
mod elementwise;
mod linear;
mod norm;
mod pool;
mod reduce;
mod resize;
mod shape;

use super::emit::Emitter;
use crate::proto::{NodeProto, data_type};
use shiftlens_api::Result;

/// A node to be differentiated.
pub struct Call<'a> {
    /// The node.
    pub node: &'a NodeProto,
    /// Gradient of each output, where the score depends on it.
    pub outputs: Vec<Option<String>>,
    /// Which inputs need a gradient.
    pub wanted: Vec<bool>,
}

impl<'a> Call<'a> {
    /// True if input `i` needs a gradient.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }
    /// Name of input `i`; rules ask only for inputs that their operator must have.
    pub fn x(&self, i: usize) -> &'a str {
        self.node.input.get(i).map_or("", String::as_str)
    }
    /// Name of the first output.
    pub fn y(&self) -> &'a str {
        self.node.output.first().map_or("", String::as_str)
    }
    /// Gradient of the first output.
    pub fn dy(&self, e: &Emitter<'_>) -> Result<String> {
        match self.outputs.first() {
            Some(Some(g)) => Ok(g.clone()),
            _ => Err(e.unsupported(self.node, "the score depends on another output than the first")),
        }
    }
}

/// Gradients of inputs, by their index.
pub type Answer = Result<Vec<(usize, String)>>;
/// A gradient rule.
pub type Rule = fn(&mut Emitter<'_>, &Call<'_>) -> Answer;

/// All rules, by operator.
pub const RULES: &[(&str, Rule)] = &[
    ("Abs", elementwise::abs),
    ("Add", elementwise::add),
    ("AveragePool", pool::average_pool),
    ("BatchNormalization", norm::batch_normalization),
    ("Cast", elementwise::identity),
    ("Celu", elementwise::celu),
    ("Clip", elementwise::clip),
    ("Concat", shape::concat),
    ("Conv", conv::conv),
    ("ConvTranspose", conv::conv_transpose),
    ("Cos", elementwise::cos),
    ("DepthToSpace", shape::depth_to_space),
    ("Div", elementwise::div),
    ("Dropout", elementwise::identity),
    ("Elu", elementwise::elu),
    ("Erf", elementwise::erf),
    ("Exp", elementwise::exp),
    ("Expand", shape::expand),
    ("Flatten", shape::same_values),
    ("Gather", shape::gather),
    ("Gelu", elementwise::gelu),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", pool::global_average_pool),
    ("GlobalMaxPool", pool::global_max_pool),
    ("HardSigmoid", elementwise::hard_sigmoid),
    ("HardSwish", elementwise::hard_swish),
    ("Identity", elementwise::identity),
    ("InstanceNormalization", norm::instance_normalization),
    ("LayerNormalization", norm::layer_normalization),
    ("LeakyRelu", elementwise::leaky_relu),
    ("Log", elementwise::log),
    ("LogSoftmax", linear::log_softmax),
    ("MatMul", linear::matmul),
    ("Max", elementwise::max),
    ("MaxPool", pool::max_pool),
    ("Mean", elementwise::mean),
    ("Min", elementwise::min),
    ("Mul", elementwise::mul),
    ("Neg", elementwise::neg),
    ("PRelu", elementwise::prelu),
    ("Pad", shape::pad),
    ("Pow", elementwise::pow),
    ("Reciprocal", elementwise::reciprocal),
    ("ReduceL2", reduce::reduce_l2),
    ("ReduceMax", reduce::reduce_max),
    ("ReduceMean", reduce::reduce_mean),
    ("ReduceMin", reduce::reduce_min),
    ("ReduceSum", reduce::reduce_sum),
    ("ReduceSumSquare", reduce::reduce_sum_square),
    ("Relu", elementwise::relu),
    ("Reshape", shape::same_values),
    ("Resize", resize::resize),
    ("Selu", elementwise::selu),
    ("Sigmoid", elementwise::sigmoid),
    ("Sin", elementwise::sin),
    ("Slice", shape::slice),
    ("Softmax", linear::softmax),
    ("Softplus", elementwise::softplus),
    ("Softsign", elementwise::softsign),
    ("SpaceToDepth", shape::space_to_depth),
    ("Split", shape::split),
    ("Sqrt", elementwise::sqrt),
    ("Squeeze", shape::same_values),
    ("Sub", elementwise::sub),
    ("Sum", elementwise::sum),
    ("Tanh", elementwise::tanh),
    ("Transpose", shape::transpose),
    ("Unsqueeze", shape::same_values),
    ("Upsample", resize::upsample),
    ("Where", elementwise::r#where),
];

/// Operators whose outputs do not vary smoothly with their inputs: integers, comparisons, steps. Their gradient is 0.
const CONSTANT: &[&str] = &[
    "And",
    "ArgMax",
    "ArgMin",
    "Ceil",
    "ConstantOfShape",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "Or",
    "Range",
    "Round",
    "Shape",
    "Sign",
    "Size",
    "Xor",
];

/// The rule for a node, if there is one.
pub fn rule(node: &NodeProto) -> Option<Rule> {
    if !node.is_standard() {
        return None;
    }
    RULES.iter().find(|(op, _)| *op == node.op()).map(|(_, r)| *r)
}

/// True if no gradient flows through the node.
pub fn is_constant(node: &NodeProto) -> bool {
    let to_integer = || {
        let to = node.int("to", 0) as i32;
        ![data_type::FLOAT, data_type::FLOAT16, data_type::DOUBLE, data_type::BFLOAT16].contains(&to)
    };
    node.is_standard() && (CONSTANT.contains(&node.op()) || node.op() == "Cast" && to_integer())
}
