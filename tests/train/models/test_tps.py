import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.models.tps import (
    CORNERS,
    Ltps,
    Sampling,
    ServingLtps,
    SplineGrid,
    grid_sampled,
    hat_weights,
    pixels,
    radial,
    rotated,
)

CORNER_POINTS = torch.tensor(CORNERS)
GRIDS = [(16, 8), (8, 4), (21, 10), (2, 2), (5, 3)]


def made(rows: int = 8, columns: int = 4, *, eta: float = 0.1, sampling: Sampling = "hat") -> Ltps:
    torch.manual_seed(0)
    align = Ltps(24, rows, columns, eta=eta, sampling=sampling)
    with torch.no_grad():  # the angles of different pictures differ, and are not small
        for parameter in align.angle_predictor.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        align.src_points.add_(0.1 * torch.randn(4, 2))
    return align


def spline(source: list[list[float]], target: list[list[float]], at: list[float]) -> list[float]:
    """The thin-plate spline from source to target, evaluated at one point, in plain float64."""

    def kernel(p: list[float], q: list[float]) -> float:
        squared = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2
        return squared * math.log(math.sqrt(squared)) if squared > 0 else 0.0

    count = len(source)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    for i, p in enumerate(source):
        for j, q in enumerate(source):
            system[i, j] = kernel(p, q)
        for j, value in enumerate((1.0, *p)):
            system[i, count + j] = system[count + j, i] = value
    right = torch.zeros(count + 3, 2, dtype=torch.float64)
    right[:count] = torch.tensor(target, dtype=torch.float64)
    weights = torch.linalg.solve(system, right)
    basis = [*(kernel(at, p) for p in source), 1.0, *at]
    return [sum(b * float(w) for b, w in zip(basis, weights[:, a], strict=True)) for a in (0, 1)]


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_the_spline_takes_the_control_points_onto_their_targets(rows: int, columns: int) -> None:
    torch.manual_seed(rows)
    targets = CORNER_POINTS + 0.5 * torch.randn(3, 4, 2)
    where = SplineGrid(CORNER_POINTS, rows, columns).coefficients() @ targets
    grid = where.reshape(3, rows, columns, 2)
    found = torch.stack([grid[:, 0, 0], grid[:, -1, 0], grid[:, 0, -1], grid[:, -1, -1]], dim=1)
    torch.testing.assert_close(found, targets, rtol=0, atol=1e-5)


def test_the_grid_between_control_points_is_the_spline_of_a_loop_in_float64() -> None:
    rows, columns = 6, 3
    targets = [[-1.2, -0.9], [-0.7, 1.3], [0.8, -1.1], [1.4, 0.6]]
    where = SplineGrid(CORNER_POINTS, rows, columns).coefficients() @ torch.tensor(targets)
    corners = [list(corner) for corner in CORNERS]
    for i in range(rows):
        for j in range(columns):
            at = [2 * j / (columns - 1) - 1, 2 * i / (rows - 1) - 1]
            wanted = torch.tensor(spline(corners, targets, at), dtype=torch.float32)
            torch.testing.assert_close(where[i * columns + j], wanted, rtol=0, atol=2e-6)


def test_the_coefficients_of_a_patch_sum_to_one() -> None:
    sums = SplineGrid(CORNER_POINTS, 16, 8).coefficients().sum(1)
    torch.testing.assert_close(sums, torch.ones(128), rtol=0, atol=2e-6)


def test_the_kernel_is_zero_at_a_centre_and_r_squared_log_r_elsewhere() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    found = radial(points, points)
    wanted = 25 * math.log(5)
    torch.testing.assert_close(found, torch.tensor([[0.0, wanted], [wanted, 0.0]]))


def test_a_quarter_turn_takes_x_to_y_and_y_to_minus_x() -> None:
    turned = rotated(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([math.pi / 2, 0.0]))
    wanted = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(turned, wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
@pytest.mark.parametrize("eta", [0.0, 0.1, 0.5])
def test_without_a_turn_patches_are_scaled_by_one_plus_eta_exactly(
    rows: int, columns: int, eta: float
) -> None:
    align = Ltps(24, rows, columns, eta=eta, sampling="hat")
    torch.nn.init.zeros_(align.angle_predictor[6].weight)
    torch.nn.init.zeros_(align.angle_predictor[6].bias)
    patches = torch.randn(2, rows * columns, 24)
    with torch.inference_mode():
        angle = align.angle(patches)
        found, served = align.warp(patches, angle), ServingLtps(align)(patches)
    assert angle.tolist() == [0, 0]
    wanted = patches + eta * patches
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(served, wanted, rtol=0, atol=0)
    torch.testing.assert_close(found, (1 + eta) * patches)  # the same but for a rounding


@settings(max_examples=30)
@given(st.integers(0, 2**31 - 1), st.sampled_from(GRIDS), st.floats(0.1, 4))
@example(200698, (21, 10), 0.36246320813125665)
def test_hat_weights_and_their_gradients_equal_grid_sample(
    seed: int, shape: tuple[int, int], spread: float
) -> None:
    rows, columns = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    patches, onto = draw(2, rows * columns, 5), draw(2, rows * columns, 5)
    way = spread * draw(2, rows * columns, 2)  # far out of the map too
    # Exact: the float32 places, off by 6e-8 of half a side, are off by 1e-5 in some gradients.
    half = torch.tensor([(columns - 1) / 2, (rows - 1) / 2], dtype=torch.float64)
    own = pixels(torch.zeros_like(way[:1]), rows, columns)[0] / half - 1
    torch.testing.assert_close(own.float(), SplineGrid(CORNER_POINTS, rows, columns).places())
    gradients = []
    values = []
    for hat in (True, False):
        source, moved = patches.clone().requires_grad_(), way.clone().requires_grad_()
        if hat:
            weights = hat_weights(pixels(moved, rows, columns), rows, columns)
            torch.testing.assert_close(weights.sum(2), torch.ones_like(weights[..., 0]))
            sampled = weights @ source
        else:
            sampled = grid_sampled(source, (own + moved).reshape(2, rows, columns, 2))
        (sampled * onto).sum().backward()
        values.append(sampled.detach())
        gradients.append((source.grad, moved.grad))
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-5)
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), GRIDS[:3])
def test_both_samplings_and_both_forms_warp_alike(rows: int, columns: int) -> None:
    by_hat, by_grid = made(rows, columns), made(rows, columns, sampling="grid")
    patches = torch.randn(3, rows * columns, 24)
    with torch.inference_mode():
        angle = by_hat.angle(patches)
        assert angle.abs().min() > 0.01
        wanted = by_grid.warp(patches, angle)
        assert (wanted - patches * 1.1).abs().max() > 0.05  # it does warp
        for found in (
            by_hat.warp(patches, angle),
            ServingLtps(by_hat)(patches),
            ServingLtps(by_grid)(patches),
        ):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_both_samplings_teach_points_and_angle_alike() -> None:
    gradients = []
    for sampling in ("hat", "grid"):
        align = made(sampling=sampling)
        torch.manual_seed(1)
        patches, onto = torch.randn(3, 32, 24), torch.randn(3, 32, 24)
        (align.warp(patches, align.angle(patches)) * onto).sum().backward()
        gradients.append({name: p.grad for name, p in align.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    assert gradients[0]["src_points"].abs().min() > 0
    for name, left in gradients[0].items():
        torch.testing.assert_close(left, gradients[1][name], rtol=1e-4, atol=1e-5)


def test_the_grid_is_the_spline_of_the_turned_points() -> None:
    align = made(6, 3)
    angle = 0.7
    corners = [list(corner) for corner in CORNERS]
    turned = []
    for x, y in align.src_points.tolist():
        turned.append(
            [
                x * math.cos(angle) - y * math.sin(angle),
                x * math.sin(angle) + y * math.cos(angle),
            ]
        )
    with torch.inference_mode():
        grid = align.grid(torch.tensor([angle]))[0]
    for i in range(6):
        for j in range(3):
            wanted = torch.tensor(spline(corners, turned, [j - 1.0, 2 * i / 5 - 1]))
            torch.testing.assert_close(grid[i, j], wanted, rtol=0, atol=2e-6)


def test_angles_stay_within_a_quarter_turn_and_places_within_half_precision() -> None:
    align = made()
    patches = 30 * torch.randn(6, 32, 24)
    with torch.inference_mode():
        angle = align.angle(patches)
        assert angle.abs().max() <= math.pi / 2
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = align.angle(patches)
            warped = align.warp(patches, angle)
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, angle, rtol=0, atol=0.05)
        torch.testing.assert_close(warped, align.warp(patches, angle), rtol=0, atol=0)


def test_patches_that_do_not_fill_the_grid_are_refused_not_passed_on() -> None:
    with pytest.raises(InputError, match="33 patches do not fill the grid of 8x4"):
        made().angle(torch.randn(1, 33, 24))


@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (4, 1)])
def test_a_grid_without_corners_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(SettingsError, match=f"{rows}x{columns} patches cannot be warped"):
        Ltps(24, rows, columns, eta=0.1, sampling="hat")


def test_the_border_is_repeated_outside_the_map() -> None:
    patches = torch.arange(6.0)[None, :, None]  # 3 rows of 2
    where = torch.tensor([[[-5.0, 0.0], [9.0, 9.0], [0.5, 1.0], [1.0, 0.5], [0.0, -1], [0, 7]]])
    found = hat_weights(where, 3, 2) @ patches
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.0, 5.0, 2.5, 2.0, 0.0, 4.0]))
