import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoomldm.data.schema import (
    MAX_SLIDE_NAME,
    SampleMeta,
    decode_grid,
    decode_image,
    decode_npy,
    encode_grid,
    encode_image,
    encode_npy,
    fields_of,
    is_reference,
    make_key,
    parse_key,
    slide_key,
)

NAMES = st.text(min_size=1, max_size=90).filter(lambda name: "/" not in name and "\0" not in name)
PIXELS = st.integers(-(10**6), 10**7)


@given(NAMES, st.integers(0, 11), PIXELS, PIXELS)
def test_keys_come_back(name, k, x, y):
    key = make_key(name, 2**k, x, y)
    assert parse_key(key) == (slide_key(name), 2**k, x, y)
    assert "." not in key
    assert "/" not in key
    assert len(key) + len(".latent.npy") <= 100  # the name field of a plain tar header


@given(NAMES, NAMES)
def test_two_slides_share_a_key_only_if_a_dot_is_all_that_differs(one, two):
    if one.replace(".", "_") != two.replace(".", "_"):
        assert slide_key(one) != slide_key(two)


def test_ordinary_names_stay_readable():
    assert slide_key("TCGA-3C-AALI-01Z-00-DX1.F6E9") == "TCGA-3C-AALI-01Z-00-DX1_F6E9"
    assert slide_key("a b.svs").startswith("a-b_svs-")
    assert len(slide_key("x" * 200)) == MAX_SLIDE_NAME


def test_other_strings_are_no_keys():
    with pytest.raises(ValueError, match="not a sample key"):
        parse_key("slide_x0_y0")


@given(
    side=st.sampled_from([1, 2, 4, 16]),
    num_rows=st.integers(1, 40),
    dim=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_grids_come_back(side, num_rows, dim, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((num_rows, dim)).astype(np.float16)
    cells = rng.integers(0, num_rows, (side, side))
    fields = encode_grid(cells, rows)
    assert tuple(sorted(fields)) == fields_of("grid")
    assert np.array_equal(decode_grid(fields), rows[cells])
    assert decode_npy(fields["cells.npy"]).dtype == np.uint16


def test_a_grid_of_16384_tissue_cells_fits():
    cells = np.arange(1, 128 * 128 + 1).reshape(128, 128)
    rows = np.arange(128 * 128 + 1, dtype=np.float32)[:, None] % 1000
    assert np.array_equal(decode_grid(encode_grid(cells, rows))[..., 0], (cells % 1000).astype(np.float16))


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (np.zeros((2, 3), int), np.zeros((1, 2))),
        (np.full((2, 2), 5), np.zeros((3, 2))),
        (np.zeros(4, int), np.zeros(4)),
    ],
)
def test_grids_that_do_not_fit_are_refused(cells, rows):
    with pytest.raises(ValueError, match=r"expected|rows hold"):
        encode_grid(cells, rows)


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.uint16, np.int64, np.uint8]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_arrays_come_back_and_numpy_reads_them(array):
    import io

    content = encode_npy(array)
    for read in (decode_npy(content), np.load(io.BytesIO(content))):
        assert read.dtype == array.dtype
        assert read.shape == array.shape
        assert read.tobytes() == array.tobytes()


@pytest.mark.parametrize("content", [b"", b"junk", encode_npy(np.zeros(100))[:-5]])
def test_damaged_arrays_are_refused(content):
    with pytest.raises(ValueError, match=r"."):
        decode_npy(content)


def test_png_is_lossless_and_jpeg_is_close():
    y, x = np.mgrid[0:32, 0:32]
    pixels = np.stack([x * 7, y * 7, (x + y) * 3], axis=-1).astype(np.uint8)
    assert np.array_equal(decode_image(encode_image(pixels, "png")), pixels)
    jpeg = decode_image(encode_image(pixels, "jpeg"))
    assert np.abs(jpeg.astype(int) - pixels).mean() < 3
    with pytest.raises(ValueError, match="gif"):
        encode_image(pixels, "gif")


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_the_reference_set_grows_with_its_fraction(key, small, large):
    small, large = sorted((small, large))
    assert is_reference(key, large) or not is_reference(key, small)
    assert not is_reference(key, 0.0)
    assert is_reference(key, 1.0)


def test_meta_comes_back():
    meta = SampleMeta(
        key="a_r1_x0_y0",
        magnification=0.15625,
        slide="a.ü",
        patient="p",
        split="test",
        x_px0=3,
        y_px0=-4,
        region_px0=512,
        mpp_nominal=0.5,
        mpp_true=0.499,
        tissue=0.25,
        labels={"grade": "3"},
    )
    assert SampleMeta.decode(meta.encode()) == meta
