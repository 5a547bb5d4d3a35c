import pytest

from skyreid.edge.telemetry.geoid import geoid_height


@pytest.mark.parametrize(
    ("latitude", "longitude", "height_m"),
    [  # INPUT.DAT and OUTPUT.DAT, which NIMA published with the model
        (38.6281550, 269.7791550, -31.628),
        (-14.6212170, 305.0211140, -2.969),
        (46.8743190, 102.4487290, -43.575),
        (-23.6174460, 133.8747120, 15.871),
        (38.6254730, 359.9995000, 50.066),
        (-0.4667440, 0.0023000, 17.329),
    ],
)
def test_the_heights_are_those_that_came_with_the_model(
    latitude: float, longitude: float, height_m: float
) -> None:
    assert geoid_height(latitude, longitude) == pytest.approx(height_m, abs=0.15)
    assert geoid_height(latitude, longitude - 360) == pytest.approx(height_m, abs=0.15)


def test_the_poles_and_the_date_line_have_a_height() -> None:
    assert geoid_height(90, 0) == pytest.approx(13.6, abs=0.1)
    assert geoid_height(-90, 77) == pytest.approx(-29.5, abs=0.1)
    assert geoid_height(10, 180) == pytest.approx(geoid_height(10, -180))
    assert geoid_height(10, 179.999) == pytest.approx(geoid_height(10, -179.999), abs=0.01)
