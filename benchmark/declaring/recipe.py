"""The recipe: budget, optimiser and the sizes of the evaluation. Configured by registry/recipes/*.gin."""

from typing import Annotated, ClassVar, Literal

from benchmark.contract import HELD_OUT, Count, FieldError, Fraction, Positive, Range, entry
from benchmark.declaring.fields import added

Beta = Annotated[float, Range(least=0, below=1)]
# What a network estimates: the noise eps, the image x_0, sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022), or eps - x_0,
# the velocity of the straight path from the image to the noise (Lipman et al. 2023).
Prediction = Literal["noise", "data", "velocity", "flow"]
Weighting = Literal["noise", "data", "velocity", "flow", "min_snr"]  # the quantity whose squared error has the weight 1 at every level
NoiseSchedule = Literal["linear", "cosine", "straight"]
Convention = Literal["here", "sit", "repa", "improved_cosine", "edm", "sigma", "residual"]


@entry(kind="recipe")
class Recipe:
    """How every network of a table is trained and scored. The defaults are the paper's (Appendix A and section 2.1).

    `ranked` = False marks runs that only prove that the path works: the leaderboard lists them and never compares them.
    """

    steps: Positive = 400_000
    batch: Positive = 128
    learning_rate: Annotated[float, Range(above=0)] = 1e-4
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: Annotated[float, Range(least=0)] = 0.0
    warmup: Count = 0  # steps of linear warm-up
    schedule: Literal["constant", "cosine"] = "constant"  # after the warm-up
    final_learning_rate: Fraction = 1.0  # as a fraction of learning_rate, where the cosine ends
    clip: Annotated[float, Range(above=0)] | None = None  # global gradient norm
    ema: Beta = 0.9999
    precision: Literal["fp32", "bf16"] = "fp32"  # of the training step; evaluation is always fp32
    tf32: bool = added(False)  # fp32 matrix products of the training step with TF32 inputs, on a GPU that has it
    flips: bool = added(False)  # augmentation: every image of a batch is mirrored left to right with probability 1/2
    compile: Literal["none", "blocks", "graphs"] = added("none")  # the network block by block; graphs: and as CUDA graphs
    psnr_steps: Annotated[int, Range(least=1, most=1000)] = 50  # evenly respaced diffusion steps
    psnr_images: Positive = 300  # K of Eq. 4, per split
    trajectory: tuple[Positive, ...] = ()  # training steps at which PSNR is taken; those past `steps` are not reached
    trajectory_psnr_steps: Annotated[int, Range(least=1, most=1000)] = 10
    trajectory_psnr_images: Positive = 64
    ranked: bool = True
    peers: tuple[Count, ...] = added(())  # seeds that score each other's training images, for the membership gap
    peer_images: Positive = added(64)  # of each peer; of fewer images several noise draws, as many pairs
    trajectory_peer_images: Positive = added(16)
    prediction: Prediction = added("noise")  # what the network estimates
    weighting: Weighting = added("noise")  # of the loss; on what is predicted it becomes a factor that depends on the noise level
    min_snr_gamma: Annotated[float, Range(above=0)] = added(5.0)  # of min_snr: the error of x_0 weighs min(SNR, gamma) (Hang et al. 2023)
    noise_schedule: NoiseSchedule = added("linear")  # how the levels of training are spread; those that are scored stay the same

    # What is the same under every recipe: no field, but an entry may mark it as assumed.
    FIXED: ClassVar[tuple[str, ...]] = (
        "batches",  # drawn with replacement
        "ema_scored",  # PSNR and samples are of the EMA weights
        "estimate_clipped",  # x0_hat to [-1, 1], in the headline
        "samples",  # of FID: 50,000 unless --samples says otherwise
        "reference",  # of FID: up to 100,000 images that no row trains on, where 10,000 are left
        "sampling",  # of FID: 250 ancestral steps, variance beta-tilde, estimate clipped at each, unless flags say otherwise
    )

    def validate(self) -> None:
        """Check what no single field can."""
        if list(self.peers) != sorted(set(self.peers)) or len(self.peers) == 1:
            raise FieldError(f"peers = {self.peers} must rise, and be none or several")
        if list(self.trajectory) != sorted(set(self.trajectory)):
            raise FieldError(f"trajectory = {self.trajectory} must rise")
        if self.warmup >= self.steps:
            raise FieldError(f"warmup = {self.warmup} must be shorter than steps = {self.steps}")
        if self.schedule == "constant" and self.final_learning_rate != 1.0:
            raise FieldError(f"final_learning_rate = {self.final_learning_rate} needs schedule = 'cosine'")
        if self.weighting != "min_snr" and self.min_snr_gamma != 5.0:
            raise FieldError(f"min_snr_gamma = {self.min_snr_gamma} needs weighting = 'min_snr'")
        if max(self.psnr_images, self.trajectory_psnr_images) > HELD_OUT:
            raise FieldError(f"psnr_images must be at most {HELD_OUT}: that many test images are held out")


@entry(kind="external")
class External:
    """The evaluation of a recipe alone, for a network trained elsewhere: its budget is not known here.

    `convention` tells how the network wants its noisy image and its time: as one trained here; as SiT, whose time is the share of
    the image on the straight path; as REPA and DiverseDiT, whose time is the share of the noise; as improved-diffusion under
    its cosine schedule of `cosine_steps` steps; as the network F that EDM preconditions by `sigma_data` (Karras et al. 2022); as
    a denoiser of image + sigma noise that is told sigma and returns the image; or as one of images in [0, 1], in the same way,
    that returns the residual, noisy less clean. `prediction` and `noise_schedule` are those of a network as trained here.
    `peers` and `peer_images` are the recipe's: with them the membership gap is measured as of its own rows.
    """

    psnr_steps: Positive
    psnr_images: Positive
    ranked: bool = True
    prediction: Prediction = added("noise")
    noise_schedule: NoiseSchedule = added("linear")
    convention: Convention = added("here")
    cosine_steps: Positive = added(4000)
    sigma_data: Annotated[float, Range(above=0)] = added(0.5)  # the standard deviation of the images in [-1, 1], as EDM was told
    peers: tuple[Count, ...] = added(())
    peer_images: Positive = added(64)
