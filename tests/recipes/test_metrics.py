import numpy as np
import pytest

from recipes.parts.metrics import calibration_error, log_softmax, measure


def test_measures_by_hand():
    # Three classes, of which the last never occurs; one mistake: the second example is taken for class 1.
    logits = np.log([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    found = measure(logits, np.array([0, 0, 1, 1]), ("a", "b", "c"))
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(-np.mean(np.log([0.7, 0.3, 0.8, 0.7])))
    assert found["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    a, b, c = found["per_class"]
    assert (a["class"], a["precision"], a["recall"], a["support"]) == ("a", 1.0, 0.5, 2)
    assert (b["precision"], b["recall"]) == (pytest.approx(2 / 3), 1.0)
    assert (c["precision"], c["recall"], c["support"]) == (0.0, 0.0, 0)
    # F1 is 2/3 and 4/5; the class that does not occur does not count.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_calibration_error_by_hand():
    # Two bins: below a half and above. Below, one of two is right at scores of 0.4; above, all are at 0.6, 0.9, 1.0.
    scores = np.array([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.6, 0.4, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]])
    found = calibration_error(scores, np.array([0, 1, 0, 1, 2]), bins=2)
    assert found == pytest.approx(2 / 5 * abs(0.5 - 0.4) + 3 / 5 * abs(1 - 2.5 / 3))


def test_temperature_changes_the_loss_and_the_calibration_error_and_nothing_else():
    logits = np.array([[4.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = np.array([0, 1, 1])
    plain, cooled = measure(logits, labels, ("a", "b")), measure(logits, labels, ("a", "b"), temperature=2.0)
    assert cooled["loss"] == pytest.approx(-np.mean(log_softmax(logits / 2)[[0, 1, 2], labels]))
    assert cooled["loss"] != pytest.approx(plain["loss"])
    assert cooled["calibration_error"] != pytest.approx(plain["calibration_error"])
    scored = {"loss": 0, "calibration_error": 0}
    assert {**cooled, **scored} == {**plain, **scored}


def test_log_softmax_survives_large_logits():
    found = log_softmax([[1e4, 0.0], [-1e4, 1e4]])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found), [[1, 0], [0, 1]])


def test_an_empty_split_has_no_measures():
    found = measure(np.zeros((0, 2)), np.zeros(0, int), ("a", "b"))
    assert found["images"] == 0
    assert found["accuracy"] is None
