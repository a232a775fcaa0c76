//! One rule per operator: from the gradients of a node's outputs to those of its inputs.
//!
//! A rule is a function that writes nodes through the [`Emitter`] and answers `(input, gradient)` pairs for the inputs
//! that [`Call::wants`]. To teach the differentiator an operator, write such a function and put it in [`RULES`].

mod conv;
mod einsum;
mod elementwise;
mod index;
mod linear;
mod norm;
mod pool;
mod quantize;
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
    ///
    /// # Errors
    /// [`shiftlens_api::Error::Unsupported`] if the score depends on another one too: only rules that look at all of
    /// [`Call::outputs`] can say what that adds.
    pub fn dy(&self, e: &Emitter<'_>) -> Result<String> {
        let further = self.node.output.iter().zip(&self.outputs).skip(1).find(|(_, g)| g.is_some());
        match (self.outputs.first(), further) {
            (Some(Some(g)), None) => Ok(g.clone()),
            (_, other) => {
                let name = other.map_or("", |(name, _)| name.as_str());
                let why = format!(
                    "the score depends on its output \"{name}\", and the rule knows the first (\"{}\") only",
                    self.y()
                );
                Err(e.unsupported(self.node, &why))
            }
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
    ("Acos", elementwise::acos),
    ("Acosh", elementwise::acosh),
    ("Add", elementwise::add),
    ("Asin", elementwise::asin),
    ("Asinh", elementwise::asinh),
    ("Atan", elementwise::atan),
    ("Atanh", elementwise::atanh),
    ("AveragePool", pool::average_pool),
    ("BatchNormalization", norm::batch_normalization),
    ("Cast", elementwise::identity),
    ("CastLike", elementwise::identity),
    ("Celu", elementwise::celu),
    ("Clip", elementwise::clip),
    ("Concat", shape::concat),
    ("Conv", conv::conv),
    ("ConvTranspose", conv::conv_transpose),
    ("Cos", elementwise::cos),
    ("Cosh", elementwise::cosh),
    ("CumSum", shape::cum_sum),
    ("DepthToSpace", shape::depth_to_space),
    ("DequantizeLinear", quantize::dequantize),
    ("Div", elementwise::div),
    ("Dropout", elementwise::dropout),
    ("Einsum", einsum::einsum),
    ("Elu", elementwise::elu),
    ("Erf", elementwise::erf),
    ("Exp", elementwise::exp),
    ("Expand", shape::expand),
    ("Flatten", shape::same_values),
    ("Gather", shape::gather),
    ("GatherElements", index::gather_elements),
    ("GatherND", index::gather_nd),
    ("Gelu", elementwise::gelu),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", pool::global_average_pool),
    ("GlobalLpPool", pool::global_lp_pool),
    ("GlobalMaxPool", pool::global_max_pool),
    ("GroupNormalization", norm::group_normalization),
    ("HardSigmoid", elementwise::hard_sigmoid),
    ("HardSwish", elementwise::hard_swish),
    ("Identity", elementwise::identity),
    ("InstanceNormalization", norm::instance_normalization),
    ("LRN", norm::lrn),
    ("LayerNormalization", norm::layer_normalization),
    ("LeakyRelu", elementwise::leaky_relu),
    ("Log", elementwise::log),
    ("LogSoftmax", linear::log_softmax),
    ("LpNormalization", norm::lp_normalization),
    ("LpPool", pool::lp_pool),
    ("MatMul", linear::matmul),
    ("Max", elementwise::max),
    ("MaxPool", pool::max_pool),
    ("Mean", elementwise::mean),
    ("MeanVarianceNormalization", norm::mean_variance_normalization),
    ("Min", elementwise::min),
    ("Mish", elementwise::mish),
    ("Mul", elementwise::mul),
    ("Neg", elementwise::neg),
    ("PRelu", elementwise::prelu),
    ("Pad", shape::pad),
    ("Pow", elementwise::pow),
    ("QuantizeLinear", quantize::quantize),
    ("RMSNormalization", norm::rms_normalization),
    ("Reciprocal", elementwise::reciprocal),
    ("ReduceL1", reduce::reduce_l1),
    ("ReduceL2", reduce::reduce_l2),
    ("ReduceLogSum", reduce::reduce_log_sum),
    ("ReduceLogSumExp", reduce::reduce_log_sum_exp),
    ("ReduceMax", reduce::reduce_max),
    ("ReduceMean", reduce::reduce_mean),
    ("ReduceMin", reduce::reduce_min),
    ("ReduceProd", reduce::reduce_prod),
    ("ReduceSum", reduce::reduce_sum),
    ("ReduceSumSquare", reduce::reduce_sum_square),
    ("Relu", elementwise::relu),
    ("Reshape", shape::same_values),
    ("Resize", resize::resize),
    ("ScatterElements", index::scatter_elements),
    ("ScatterND", index::scatter_nd),
    ("Selu", elementwise::selu),
    ("Shrink", elementwise::shrink),
    ("Sigmoid", elementwise::sigmoid),
    ("Sin", elementwise::sin),
    ("Sinh", elementwise::sinh),
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
    ("Swish", elementwise::swish),
    ("Tan", elementwise::tan),
    ("Tanh", elementwise::tanh),
    ("ThresholdedRelu", elementwise::thresholded_relu),
    ("Tile", shape::tile),
    ("TopK", index::top_k),
    ("Transpose", shape::transpose),
    ("Trilu", shape::trilu),
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
    "OneHot",
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
