//! Gradients of our own on results that candle's operations computed.
//!
//! Where our kernels do not serve, an operation's value is composed of candle's operations. Their own backward passes
//! would be slow on a GPU: that of a convolution is a transposed convolution, which candle runs without a matrix
//! product. So the value is computed outside the graph, and then put into the graph with the backward pass of our
//! operation, which is the same on every device.

use super::native;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, InplaceOp1, Layout, Result, Shape,
    Tensor, bail,
};
use std::sync::Mutex;

/// An operation's value in candle's operations, on any device and in any type.
pub(super) trait Compose {
    /// The value; nothing that is done here is differentiated.
    fn compose(&self, args: &[Tensor]) -> Result<Tensor>;
}

enum Stored {
    Cpu(CpuStorage),
    Cuda(CudaStorage),
}

/// Takes the numbers out of a tensor without copying them. The tensor is of no use afterwards.
struct Take(Mutex<Option<Stored>>);

impl Take {
    fn put(&self, stored: Stored) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(stored);
    }
}

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "stylegan2-take"
    }
    fn cpu_fwd(&self, s: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.put(Stored::Cpu(std::mem::replace(s, CpuStorage::F32(Vec::new()))));
        Ok(())
    }
    fn cuda_fwd(&self, s: &mut CudaStorage, _: &Layout) -> Result<()> {
        let nothing = s.device().zeros_impl(&Shape::from(1), DType::F32)?;
        self.put(Stored::Cuda(std::mem::replace(s, nothing)));
        Ok(())
    }
}

/// A value that waits to be put into the graph, and the operation that it is the value of.
struct Grafted<O> {
    op: O,
    value: Take,
    shape: Shape,
}

/// True if both tensors are views of the same numbers.
fn shared(a: &Tensor, b: &Tensor) -> bool {
    let (a, _) = a.storage_and_layout();
    let (b, _) = b.storage_and_layout();
    std::ptr::eq(&raw const *a, &raw const *b)
}

impl<O> Grafted<O> {
    fn new(op: O, value: Tensor, args: &[Tensor]) -> Result<Self> {
        let whole = value.is_contiguous() && value.layout().start_offset() == 0;
        let own = whole && !args.iter().any(|a| shared(a, &value));
        let value = if own { value } else { value.force_contiguous()? };
        let take = Take(Mutex::new(None));
        value.inplace_op1(&take)?;
        Ok(Self { op, value: take, shape: value.shape().clone() })
    }
    fn take(&self) -> Result<Stored> {
        match self.value.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            Some(s) => Ok(s),
            None => bail!("a grafted value can be taken only once"),
        }
    }
    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            Stored::Cpu(s) => Ok((s, self.shape.clone())),
            Stored::Cuda(_) => bail!("a value on a GPU, arguments on the CPU"),
        }
    }
    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            Stored::Cuda(s) => Ok((s, self.shape.clone())),
            Stored::Cpu(_) => bail!("a value on the CPU, arguments on a GPU"),
        }
    }
}

impl<O: CustomOp1> CustomOp1 for Grafted<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }
    fn bwd(&self, a: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        self.op.bwd(a, y, g)
    }
}

impl<O: CustomOp2> CustomOp2 for Grafted<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.op.bwd(a, b, y, g)
    }
}

impl<O: CustomOp3> CustomOp3 for Grafted<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.op.bwd(a, b, c, y, g)
    }
}

/// `op(a)`, by our kernels where they serve.
pub(super) fn run1<O: CustomOp1 + Compose + Send + Sync + 'static>(a: &Tensor, op: O) -> Result<Tensor> {
    if native(a) {
        return a.contiguous()?.apply_op1(op);
    }
    composed1(a, op)
}

/// `op(a)` in candle's operations.
pub(super) fn composed1<O: CustomOp1 + Compose + Send + Sync + 'static>(a: &Tensor, op: O) -> Result<Tensor> {
    let args = [a.detach()];
    let y = op.compose(&args)?;
    if !a.track_op() {
        return Ok(y);
    }
    a.apply_op1(Grafted::new(op, y, &args)?)
}

/// `op(a, b)`, by our kernels where they serve.
pub(super) fn run2<O>(a: &Tensor, b: &Tensor, op: O) -> Result<Tensor>
where
    O: CustomOp2 + Compose + Send + Sync + 'static,
{
    if native(a) {
        return a.contiguous()?.apply_op2(&b.contiguous()?, op);
    }
    let args = [a.detach(), b.detach()];
    let y = op.compose(&args)?;
    if !a.track_op() && !b.track_op() {
        return Ok(y);
    }
    a.apply_op2(b, Grafted::new(op, y, &args)?)
}

/// `op(a, b, c)`, by our kernels where they serve.
pub(super) fn run3<O>(a: &Tensor, b: &Tensor, c: &Tensor, op: O) -> Result<Tensor>
where
    O: CustomOp3 + Compose + Send + Sync + 'static,
{
    if native(a) {
        return a.contiguous()?.apply_op3(&b.contiguous()?, &c.contiguous()?, op);
    }
    let args = [a.detach(), b.detach(), c.detach()];
    let y = op.compose(&args)?;
    if !a.track_op() && !b.track_op() && !c.track_op() {
        return Ok(y);
    }
    a.apply_op3(b, c, Grafted::new(op, y, &args)?)
}
