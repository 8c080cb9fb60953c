"""Pictures show what is past its limit."""

from matplotlib.colors import to_rgba

from mlway_assets.compute.monitoring_plots import Bar, limits_plot

FINE, PAST = Bar("carrier", 0.1, 0.2, is_past=False), Bar("origin", 0.3, 0.2, is_past=True)


def test_a_measure_without_a_breach_is_left_out_beside_one_that_has_some() -> None:
    [axes] = limits_plot({"index": [FINE], "missing": [FINE, PAST]}).axes
    assert axes.get_xlabel() == "missing"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["carrier", "origin"]
    assert [bar.get_facecolor() for bar in axes.patches] == [to_rgba("tab:blue"), to_rgba("tab:red")]


def test_of_two_measures_with_a_breach_each_has_its_panel() -> None:
    figure = limits_plot({"index": [PAST], "missing": [FINE, PAST]})
    assert [axes.get_xlabel() for axes in figure.axes] == ["index", "missing"]


def test_where_nothing_is_past_the_first_measure_is_shown() -> None:
    assert [axes.get_xlabel() for axes in limits_plot({"index": [FINE], "missing": []}).axes] == ["index"]
    assert len(limits_plot({"index": []}).axes) == 1
