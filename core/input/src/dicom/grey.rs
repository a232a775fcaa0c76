//! Grey frames: the modality transformation, and what the file says about brightness.

use super::attributes::{Object, element, keyword, number, of_frame};
use super::layout::Layout;
use super::lut::Lut;
use crate::Said;
use crate::pixels::Pixels;
use crate::window::{Curve, VoiFunction};
use dicom_dictionary_std::tags;

/// What a stored value means.
enum Modality {
    Linear { slope: f64, intercept: f64 },
    Table(Lut),
}

impl Modality {
    fn of(object: &Object, layout: &Layout, k: usize) -> Said<Self> {
        if let Some(items) = object.get(tags::MODALITY_LUT_SEQUENCE).and_then(|e| e.items())
            && let Some(item) = items.first()
        {
            return Ok(Self::Table(Lut::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, layout.signed)?));
        }
        let find = |tag| of_frame(object, k, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, tag).map(number);
        let slope = find(tags::RESCALE_SLOPE).transpose()?.unwrap_or(1.0);
        let intercept = find(tags::RESCALE_INTERCEPT).transpose()?.unwrap_or(0.0);
        if slope == 0.0 {
            return Err(format!("`{}` is 0", keyword(tags::RESCALE_SLOPE)));
        }
        Ok(Self::Linear { slope, intercept })
    }

    fn at(&self, x: f64) -> f64 {
        match self {
            Self::Linear { slope, intercept } => slope * x + intercept,
            Self::Table(lut) => lut.at(x).into(),
        }
    }

    /// The least and the largest value that can come of a stored one.
    fn full(&self, (low, high): (f64, f64)) -> (f64, f64) {
        match self {
            Self::Linear { slope, .. } if *slope < 0.0 => (self.at(high), self.at(low)),
            Self::Linear { .. } => (self.at(low), self.at(high)),
            Self::Table(lut) => (0.0, lut.most.into()),
        }
    }
}

/// Frame `k`'s stored values with their meaning.
pub fn describe(
    object: &Object,
    layout: &Layout,
    k: usize,
    mut values: Vec<f32>,
    inverted: bool,
) -> Said<Pixels> {
    let modality = Modality::of(object, layout, k)?;
    values.iter_mut().for_each(|v| *v = modality.at(f64::from(*v)) as f32);
    Ok(Pixels {
        channels: 1,
        height: layout.rows,
        width: layout.columns,
        values,
        full: Some(modality.full(layout.full())),
        own: own(object, layout, k),
        inverted,
    })
}

/// The file's first window, else its first table.
fn own(object: &Object, layout: &Layout, k: usize) -> Said<Option<Curve>> {
    let find = |tag| of_frame(object, k, tags::FRAME_VOILUT_SEQUENCE, tag);
    if let (Some(centre), Some(width)) = (find(tags::WINDOW_CENTER), find(tags::WINDOW_WIDTH)) {
        let function = match find(tags::VOILUT_FUNCTION).and_then(|e| e.to_str().ok()) {
            None => VoiFunction::Linear,
            Some(name) => match name.trim_end_matches(['\0', ' ']) {
                "" | "LINEAR" => VoiFunction::Linear,
                "LINEAR_EXACT" => VoiFunction::LinearExact,
                "SIGMOID" => VoiFunction::Sigmoid,
                _ => {
                    return Err(format!(
                        "`{}` is none of LINEAR, LINEAR_EXACT, SIGMOID",
                        keyword(tags::VOILUT_FUNCTION)
                    ));
                }
            },
        };
        let (centre, width) = (number(centre)?, number(width)?);
        function.check(width)?;
        return Ok(Some(Curve::Window(centre, width, function)));
    }
    let Some(item) = element(object, tags::VOILUT_SEQUENCE).and_then(|e| e.items()?.first()) else {
        return Ok(None);
    };
    // What is looked up are values after rescaling, which may be negative where stored ones are not.
    let negative = layout.signed
        || of_frame(object, k, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, tags::RESCALE_INTERCEPT)
            .is_some_and(|e| number(e).is_ok_and(|v| v < 0.0));
    let lut = Lut::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, negative)?;
    Ok(Some(Curve::Table(lut.first, lut.brightness())))
}
