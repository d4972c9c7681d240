"""How the bench of fidelity compares, and what it reads of the libraries' words."""

import numpy as np
import pytest
from bench.fidelity import figures, kernels_of, texts
from bench.peers.fidelity import compared


def test_equal_logits_have_no_distance():
    logits = np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32)
    found = compared(logits, logits + 3, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(found["divergence"], 0, atol=1e-6)
    np.testing.assert_allclose(found["plain"], found["small"], atol=1e-6)
    assert found["agreement"].tolist() == [1] * 5


def test_distances_are_those_of_the_probabilities():
    plain, small = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.5, 0.25]])
    found = compared(plain.astype(np.float32), small.astype(np.float32), [0])
    assert found["plain"] == pytest.approx(np.log(2))
    assert found["small"] == pytest.approx(np.log(4))
    assert found["divergence"] == pytest.approx(0.25 * np.log(2))
    assert found["agreement"].tolist() == [0]


def test_documents_come_with_their_sentences():
    few, all_of_them = texts(3), texts()
    assert few["documents"] == all_of_them["documents"][:3]
    assert len(set(all_of_them["documents"])) == len(all_of_them["documents"]) > 90
    assert 0 < len(few["sentences"]) < len(all_of_them["sentences"])


def test_kernels_are_named_in_the_libraries_words():
    """Of CTranslate2 the backend, of oneDNN the instructions, where it is used."""
    said = "[info]  - GEMM_S8 backend: DNNL (packed: false)\nonednn_verbose,info,cpu,isa:Intel AVX2\n"
    assert kernels_of(said) == "DNNL, Intel AVX2"
    assert kernels_of("- GEMM_S8 backend: MKL (packed: false)") == "MKL"


def test_each_figure_stands_beside_its_target():
    good = {"perplexity": 30.0, "ratio": 1.05, "agreement": 0.9, "divergence": 0.05, "time": 0.5,
            "mean": 0.996, "least": 0.98}  # fmt: skip
    assert [figure.holds for figure in figures("here", good)] == [None, True, True, True, None, True, True]
    bad = dict.fromkeys(good, 1.2) | dict.fromkeys(("agreement", "mean", "least"), 0.8)
    assert [figure.holds for figure in figures("here", bad)] == [None, False, False, False, None, False, False]
