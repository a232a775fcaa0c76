//! Small matrices that many calls share, kept on their device.

use candle_core::{DType, Device, Result, Tensor};
use std::cell::RefCell;

/// What a constant is, and its sizes.
pub(super) type Key = (&'static str, [usize; 6]);

/// More are never needed at once: a network has two or three for each of its resolutions.
const KEPT: usize = 64;

struct Entry {
    key: Key,
    dtype: DType,
    device: Device,
    tensor: Tensor,
}

thread_local! {
    static CACHE: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// The matrix of `key`, of `rows` rows; `make` computes its values the first time.
pub(super) fn matrix(
    key: Key,
    like: &Tensor,
    rows: usize,
    make: impl FnOnce() -> Vec<f64>,
) -> Result<Tensor> {
    let (dtype, device) = (like.dtype(), like.device());
    let found = CACHE.with(|c| {
        let c = c.borrow();
        let hit = c.iter().find(|e| e.key == key && e.dtype == dtype && e.device.same_device(device));
        hit.map(|e| e.tensor.clone())
    });
    if let Some(tensor) = found {
        return Ok(tensor);
    }
    let values = make();
    let columns = values.len() / rows;
    let tensor =
        Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
    CACHE.with(|c| {
        let mut c = c.borrow_mut();
        if c.len() == KEPT {
            c.remove(0);
        }
        c.push(Entry { key, dtype, device: device.clone(), tensor: tensor.clone() });
    });
    Ok(tensor)
}
