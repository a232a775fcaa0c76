//! Values of constant arrays, whatever type and encoding they are stored in.

use crate::proto::{TensorProto, data_type};
use shiftlens_api::{Error, Result};

/// A constant's values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floating-point types.
    Float(Vec<f32>),
    /// Integer and boolean types.
    Int(Vec<i64>),
}

/// A constant array.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// The shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Values,
}

impl Constant {
    /// Decodes a stored array.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for types other than real numbers, integers and booleans; [`Error::Invalid`] if the
    /// number of values does not fit the shape.
    pub fn decode(t: &TensorProto) -> Result<Self> {
        let name = t.name.as_deref().unwrap_or("");
        let shape: Vec<usize> = t.dims.iter().map(|d| (*d).max(0) as usize).collect();
        let raw = t.raw_data.as_deref().filter(|r| !r.is_empty());
        let values = match t.data_type.unwrap_or(0) {
            data_type::FLOAT => Values::Float(match raw {
                Some(r) => words(r, f32::from_le_bytes),
                None => t.float_data.clone(),
            }),
            data_type::DOUBLE => Values::Float(match raw {
                Some(r) => words(r, |b| f64::from_le_bytes(b) as f32),
                None => t.double_data.iter().map(|v| *v as f32).collect(),
            }),
            data_type::FLOAT16 => Values::Float(halves(t, raw, half_to_f32)),
            data_type::BFLOAT16 => Values::Float(halves(t, raw, |h| f32::from_bits(u32::from(h) << 16))),
            data_type::INT64 => Values::Int(match raw {
                Some(r) => words(r, i64::from_le_bytes),
                None => t.int64_data.clone(),
            }),
            data_type::INT32 => Values::Int(match raw {
                Some(r) => words(r, |b| i64::from(i32::from_le_bytes(b))),
                None => t.int32_data.iter().map(|v| i64::from(*v)).collect(),
            }),
            kind @ (data_type::UINT8 | data_type::INT8 | data_type::BOOL) => Values::Int(match raw {
                Some(r) if kind == data_type::INT8 => r.iter().map(|b| i64::from(*b as i8)).collect(),
                Some(r) => r.iter().map(|b| i64::from(*b)).collect(),
                None => t.int32_data.iter().map(|v| i64::from(*v)).collect(),
            }),
            data_type::UINT16 => Values::Int(match raw {
                Some(r) => words(r, |b| i64::from(u16::from_le_bytes(b))),
                None => t.int32_data.iter().map(|v| i64::from(*v)).collect(),
            }),
            data_type::INT16 => Values::Int(match raw {
                Some(r) => words(r, |b| i64::from(i16::from_le_bytes(b))),
                None => t.int32_data.iter().map(|v| i64::from(*v)).collect(),
            }),
            other => {
                return Err(Error::Unsupported(format!(
                    "constant \"{name}\" has ONNX data type {other}; float, double, half and integer types are read"
                )));
            }
        };
        let found = match &values {
            Values::Float(v) => v.len(),
            Values::Int(v) => v.len(),
        };
        if found != shape.iter().product::<usize>() {
            return Err(Error::Invalid(format!(
                "constant \"{name}\" declares shape {shape:?} but holds {found} values"
            )));
        }
        Ok(Self { shape, values })
    }

    /// The values as floats.
    pub fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Float(v) => v.clone(),
            Values::Int(v) => v.iter().map(|v| *v as f32).collect(),
        }
    }

    /// The values as integers; fractions are cut off.
    pub fn ints(&self) -> Vec<i64> {
        match &self.values {
            Values::Float(v) => v.iter().map(|v| *v as i64).collect(),
            Values::Int(v) => v.clone(),
        }
    }
}

/// A stored `float32` array.
pub fn float_tensor(name: &str, shape: &[usize], data: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type::FLOAT),
        raw_data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..Default::default()
    }
}

/// A stored `int64` array.
pub fn int_tensor(name: &str, shape: &[usize], data: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type::INT64),
        raw_data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..Default::default()
    }
}

fn words<const N: usize, T>(raw: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
}

fn halves(t: &TensorProto, raw: Option<&[u8]>, f: impl Fn(u16) -> f32) -> Vec<f32> {
    match raw {
        Some(r) => words(r, |b| f(u16::from_le_bytes(b))),
        None => t.int32_data.iter().map(|v| f(*v as u16)).collect(),
    }
}

/// IEEE 754 binary16 to binary32.
fn half_to_f32(h: u16) -> f32 {
    let sign = if h & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from((h >> 10) & 0x1f), f32::from(h & 0x3ff));
    match exponent {
        0 => sign * mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        e => sign * (1.0 + mantissa / 1024.0) * 2f32.powi(e - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_follow_ieee_754() {
        for (h, f) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(half_to_f32(h), f);
        }
        assert!(half_to_f32(0x7c01).is_nan() && half_to_f32(0xfc00) == f32::NEG_INFINITY);
    }

    #[test]
    fn both_encodings_are_read() {
        let raw = float_tensor("w", &[2], &[1.5, -2.0]);
        let typed = TensorProto { raw_data: None, float_data: vec![1.5, -2.0], ..raw.clone() };
        assert_eq!(Constant::decode(&raw).unwrap(), Constant::decode(&typed).unwrap());
        assert_eq!(Constant::decode(&int_tensor("i", &[], &[-7])).unwrap().ints(), vec![-7]);
        assert!(Constant::decode(&float_tensor("w", &[3], &[0.0])).is_err());
    }
}
