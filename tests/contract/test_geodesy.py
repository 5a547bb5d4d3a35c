import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.geodesy import to_earth, to_site
from skyreid.contract.site import Origin


def origin(latitude: float, longitude: float, height: float = 0.0) -> Origin:
    return Origin(latitude_deg=latitude, longitude_deg=longitude, ellipsoid_height_m=height)


def test_a_thousandth_of_a_degree_has_the_length_of_the_ellipsoid() -> None:
    # One degree of the equator is 111319.4908 m, of the meridian at the equator 110574.2758 m;
    # at latitude 60 a degree of longitude is 55800.0 m (WGS 84).
    east = to_site(origin(0, 0), 0, 1e-3, 0)
    np.testing.assert_allclose(east, [111.3194908, 0, -(111.3194908**2) / 2 / 6378137], atol=1e-6)
    north = to_site(origin(0, 0), 1e-3, 0, 0)
    assert north[1] == pytest.approx(110.5742758, abs=1e-5)
    assert to_site(origin(60, 10), 60, 10.001, 0)[0] == pytest.approx(55.8000, abs=1e-3)


def test_height_is_up_and_the_origin_is_zero() -> None:
    here = origin(47.37, 8.54, 450.0)
    np.testing.assert_allclose(to_site(here, 47.37, 8.54, 465.0), [0, 0, 15], atol=1e-8)


@given(
    st.floats(-89.9, 89.9),
    st.floats(-179.9, 179.9),
    st.floats(-100, 4000),
    st.lists(st.floats(-3000, 3000), min_size=3, max_size=3),
)
def test_there_and_back_is_the_same_point_to_a_millimetre(
    latitude: float, longitude: float, height: float, point: list[float]
) -> None:
    here = origin(latitude, longitude, height)
    np.testing.assert_allclose(to_site(here, *to_earth(here, np.array(point))), point, atol=1e-3)
