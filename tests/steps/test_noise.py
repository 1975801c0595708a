"""The noise found in synthetic maps against the noise that was put into them, and what is found in real ones."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import synthetic as make
from scipy import ndimage

from emhance.errors import MapContentError
from emhance.steps.noise import estimate_noise

BOX = 80


def add_noise(
    support: make.BoolArray, *, contrast: float, seed: int = 1, correlation: float = 0.0, **options: float
) -> make.Synthetic:
    added = make.noise(len(support), seed=seed, correlation=correlation, **options)
    return make.assemble(make.density(support, seed=seed), added, support, contrast=contrast)


def globular(**options: float) -> make.Synthetic:
    return add_noise(make.ball(BOX, 17, (0.3, 0.55, 0.62)), **options)


def filling_ball(**options: float) -> make.Synthetic:
    return add_noise(make.ball(BOX, 0.49 * BOX), **options)


def filling_cube(**options: float) -> make.Synthetic:
    return add_noise(make.filled_box(BOX), **options)


def hollow(**options: float) -> make.Synthetic:
    return add_noise(make.shell(BOX, 35, 28), **options)


def filament(**options: float) -> make.Synthetic:
    return add_noise(make.filament(BOX, 15), **options)


def micelle(*, contrast: float, seed: int = 1, correlation: float = 0.0) -> make.Synthetic:
    protein = make.filament(BOX, 9) & make.ball(BOX, 27)
    detergent = make.disc(BOX, 30, 9) & ~protein
    signal = make.density(protein, seed=seed) + 0.15 * ndimage.gaussian_filter(detergent.astype(np.float32), 1.5)
    return make.assemble(signal, make.noise(BOX, seed=seed, correlation=correlation), protein | detergent, contrast=contrast)


def zero_outside_sphere(**options: float) -> make.Synthetic:
    return make.keep_inside(add_noise(make.ball(BOX, 20), **options), make.ball(BOX, 0.47 * BOX))


def faded_outside_sphere(**options: float) -> make.Synthetic:
    return make.keep_inside(add_noise(make.ball(BOX, 20), **options), make.ball(BOX, 0.43 * BOX), soft_edge=6)


def small_in_large_box(**options: float) -> make.Synthetic:
    return add_noise(make.ball(112, 8, (0.4, 0.6, 0.5)), **options)


def noise_stronger_in_the_centre(**options: float) -> make.Synthetic:
    return globular(centre_gain=1.5, **options)


def noise_only(*, contrast: float, correlation: float = 0.0) -> make.Synthetic:
    added = make.noise(BOX, seed=1, correlation=correlation)
    return make.assemble(np.zeros_like(added), added, np.zeros(added.shape, dtype=bool), contrast=contrast)


CASES = [
    globular,
    filling_ball,
    hollow,
    filament,
    micelle,
    zero_outside_sphere,
    faded_outside_sphere,
    small_in_large_box,
    noise_stronger_in_the_centre,
    noise_only,
]


@pytest.mark.parametrize(("contrast", "correlation"), [(20.0, 0.0), (6.0, 1.0)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_finds_the_noise_that_was_added(case, contrast, correlation):
    truth = case(contrast=contrast, correlation=correlation)
    found = estimate_noise(truth.data)
    assert found.reason is None
    assert found.mean == pytest.approx(truth.noise_mean, abs=0.1 * truth.noise_std)
    assert found.std == pytest.approx(truth.noise_std, rel=0.1)


def test_finds_the_noise_in_the_corners_left_by_a_rounded_cube():
    truth = filling_cube(contrast=12.0)
    found = estimate_noise(truth.data)
    assert found.mean == pytest.approx(truth.noise_mean, abs=0.1 * truth.noise_std)
    assert found.std == pytest.approx(truth.noise_std, rel=0.1)


def test_finds_noise_blurred_over_several_voxels():
    truth = globular(contrast=12.0, correlation=2.0)
    found = estimate_noise(truth.data)
    assert found.mean == pytest.approx(truth.noise_mean, abs=0.1 * truth.noise_std)
    assert found.std == pytest.approx(truth.noise_std, rel=0.1)


def test_solvent_beyond_a_sphere_of_zeros_may_lie_off_zero():
    truth = add_noise(make.ball(BOX, 20), contrast=12.0)
    shifted = np.where(make.ball(BOX, 0.47 * BOX), truth.data + np.float32(2), np.float32(0))
    found = estimate_noise(shifted)
    assert found.mean == pytest.approx(truth.noise_mean + 2, abs=0.1 * truth.noise_std)
    assert found.std == pytest.approx(truth.noise_std, rel=0.1)


def test_box_need_not_be_cubic():
    truth = globular(contrast=12.0)
    found = estimate_noise(truth.data[:76, 5:, :55])
    assert found.mean == pytest.approx(truth.noise_mean, abs=0.1)
    assert found.std == pytest.approx(truth.noise_std, rel=0.1)


@pytest.mark.parametrize("case", [globular, hollow, zero_outside_sphere], ids=lambda case: case.__name__)
@pytest.mark.parametrize(("factor", "offset"), [(50.0, 0.0), (1e-6, 0.0), (1.0, 1e3), (1.0, -1e3), (1e-6, 3e-4)])
def test_scale_and_offset_of_the_map_do_not_matter(case, factor, offset):
    data = case(contrast=12.0).data
    found = estimate_noise(data)
    other = estimate_noise((data.astype(np.float64) * factor + offset).astype(np.float32))
    assert (other.mean - offset) / factor == pytest.approx(found.mean, abs=2e-3)
    assert other.std / factor == pytest.approx(found.std, rel=2e-3)


def test_blocks_called_solvent_lie_outside_the_particle():
    truth = globular(contrast=12.0)
    found = estimate_noise(truth.data)
    voxels = found.solvent.repeat(found.block, 0).repeat(found.block, 1).repeat(found.block, 2)
    assert found.solvent.mean() > 0.7
    assert (voxels & truth.particle).sum() < 0.01 * truth.particle.sum()


@pytest.mark.parametrize("contrast", [5.0, 12.0, 30.0])
@pytest.mark.parametrize("soft_edge", [0.0, 5.0])
def test_says_that_a_map_cut_at_the_molecule_has_no_noise(contrast, soft_edge):
    truth = add_noise(make.ball(BOX, 21, (0.45, 0.5, 0.55)), contrast=contrast)
    cut = make.keep_inside(truth, ndimage.binary_dilation(truth.particle, iterations=3), soft_edge=soft_edge)
    found = estimate_noise(cut.data)
    assert found.mean is None
    assert found.std is None
    assert found.reason is not None
    assert found.background == 0.0
    assert found.background_share > 0.6


def test_says_that_a_map_without_any_solvent_has_no_noise():
    whole = add_noise(make.ball(BOX, 0.49 * BOX), contrast=20.0).data
    found = estimate_noise(whole[20:60, 20:60, 20:60])
    assert found.mean is None
    assert found.background is None


def test_refuses_a_constant_map():
    with pytest.raises(MapContentError, match="Every voxel of the map is 3"):
        estimate_noise(np.full((32, 32, 32), 3, dtype=np.float32))


def test_a_box_of_a_few_voxels_has_no_noise_to_measure():
    assert estimate_noise(make.noise(6, seed=0)).mean is None


def read(path: Path) -> np.ndarray:
    with mrcfile.open(path, permissive=True) as file:
        return np.array(file.data, dtype=np.float32)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["5irx", "6o1m", "8fxc"])
def test_finds_the_noise_of_a_relion_reconstruction(shared, name):
    half1, half2, mask = (read(shared / "relion_pairs" / f"{name}_{part}.mrc.gz") for part in ("half1", "half2", "mask"))
    n = len(mask)
    solvent = (mask == 0) & make.ball(n, n / 2 - 4)  # RELION leaves nothing beyond the sphere in the box
    mean = (half1 + half2) / 2
    found = estimate_noise(mean)
    assert found.mean == pytest.approx(float(mean[solvent].mean()), abs=0.1 * float(mean[solvent].std()))
    assert found.std == pytest.approx(float(mean[solvent].std()), rel=0.1)


@pytest.mark.shared_data
def test_agrees_with_the_reference_program_on_its_own_example(shared):
    found = estimate_noise(read(shared / "golden" / "inputs" / "a_full.mrc.gz"))
    assert found.mean == pytest.approx(0.000003, abs=0.05 * 0.001327)
    assert found.std == pytest.approx(0.001327, rel=0.05)


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore:Unrecognised machine stamp")
@pytest.mark.parametrize(
    ("name", "has_noise"),
    [
        ("betagal", True),
        ("emd_2867_crop", True),
        ("emd_6824", True),
        ("emd_2566_zone", False),
        ("emd_30342_zone", False),
        ("emd_3240_crop", False),
        ("emd_3488", False),
        ("emd_5778_zone", False),
        ("vp6_segment", False),
    ],
)
def test_tells_real_maps_with_solvent_from_those_without(shared, name, has_noise):
    found = estimate_noise(read(shared / "real" / f"{name}.mrc.gz"))
    assert (found.mean is not None) == has_noise
