"""Schedules at their ends, and the moving average."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from oapseg.train.schedules import cosine, linear, warmup_cosine
from oapseg.train.teacher import follow, make_teacher


def test_a_cosine_starts_and_ends_where_it_says_and_stays_there() -> None:
    assert cosine(0.996, 1.0, 0, 100) == pytest.approx(0.996)
    assert cosine(0.996, 1.0, 50, 100) == pytest.approx(0.998)
    assert cosine(0.996, 1.0, 100, 100) == cosine(0.996, 1.0, 400, 100) == pytest.approx(1.0)


def test_warm_up_rises_to_the_peak_and_falls_to_the_end() -> None:
    rates = [warmup_cosine(1.0, 0.1, step, 100, 10) for step in range(101)]
    assert rates[9] == rates[10] == 1.0
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.1)


def test_a_line_of_no_length_is_its_end() -> None:
    assert linear(0.04, 0.07, 0, 0) == 0.07


def test_the_teacher_is_the_moving_average_of_the_student_and_takes_no_gradient() -> None:
    student = nn.Linear(3, 2)
    teacher = make_teacher(student)
    start = teacher.weight.clone()
    student.weight.data += 1.0
    follow(teacher, student, 0.9)
    assert torch.allclose(teacher.weight, start + 0.1)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
