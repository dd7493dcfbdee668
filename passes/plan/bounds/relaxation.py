"""Lower bounds on binary programs: CP-SAT's best bound when time runs out, and the linear relaxation's, made exact.

The bound of the linear relaxation is not the solver's objective, which is a rounded number, but what the solver's prices prove in
exact integers: Neumaier and Shcherbina, "Safe bounds in linear and mixed-integer linear programming" (2004), section 3. Any
prices prove some bound, so those of an unfinished solve count as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from passes.plan.bounds.program import BinaryProgram, Literal, Row

PRICE_BITS = 40
"""Binary places of a price."""


SEARCHES = ("max_lp", "reduced_costs", "lb_tree_search", "objective_lb_search_max_lp", "quick_restart", "pseudo_costs")
"""CP-SAT's searches, of which as many are used as there are workers: those first that have all rows in their linear relaxation.

The default choice for few workers has not, and proves far less on knapsack rows as long as these.
"""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``bound``: no point of the program costs less. ``values``: the best point that was found, by variable.

    ``infeasible``: shown to have no point at all. ``optimal``: the cost of ``values`` is the least there is.
    """

    bound: int
    values: tuple[bool, ...] | None = None
    infeasible: bool = False
    optimal: bool = False


def integer_bound(program: BinaryProgram, seconds: float, workers: int) -> Relaxed:
    """By CP-SAT."""
    if program.contradiction:
        return Relaxed(0, infeasible=True)
    unit = program.cost_unit()
    model, variables = _model(program)
    model.minimize(_cost(program, variables))
    solver = _solver(seconds, workers)
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Relaxed(0, infeasible=True)
    # An integer that CP-SAT reports as a floating number, off by a few of its last places.
    bound = max(0, round(solver.best_objective_bound))
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Relaxed(bound * unit)
    values = tuple(bool(solver.value(variable)) for variable in variables)
    exact = all(cost % unit == 0 for cost in program.costs) and all(row.exact for row in program.rows)
    optimal = status == cp_model.OPTIMAL and exact
    return Relaxed(bound * unit, values, optimal=optimal)


def fewest(program: BinaryProgram, relaxed: Relaxed, seconds: float, workers: int) -> tuple[bool, ...]:
    """A point that costs no more than that of ``relaxed``, with as few of the counted variables as is found in the time.

    What costs nothing is had at random otherwise.
    """
    assert relaxed.values is not None
    unit = program.cost_unit()
    model, variables = _model(program)
    spent = sum(cost // unit for cost, value in zip(program.costs, relaxed.values, strict=True) if value)
    model.add(_cost(program, variables) <= spent)
    model.minimize(sum(variables[number] for number in program.counted))
    for variable, value in zip(variables, relaxed.values, strict=True):
        model.add_hint(variable, value)
    solver = _solver(seconds, workers)
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return relaxed.values
    return tuple(bool(solver.value(variable)) for variable in variables)


def linear_bound(program: BinaryProgram, seconds: float) -> Relaxed:
    """By the dual simplex method (GLOP); ``values`` is None. A program that has no point may be reported with some bound.

    Without presolve, which costs several times what it saves on these programs.
    """
    if program.contradiction:
        return Relaxed(0, infeasible=True)
    unit = program.cost_unit()
    costs = [cost // unit for cost in program.costs]
    rows = [row.scaled() for row in program.rows] + [_row(clause) for clause in program.clauses]
    solver = pywraplp.Solver.CreateSolver("GLOP")
    solver.SetSolverSpecificParametersAsString("use_dual_simplex: true use_preprocessing: false")
    variables = [solver.NumVar(0, 1, "") for _ in costs]
    constraints = []
    for row in rows:
        constraint = solver.Constraint(-solver.infinity(), row.limit)
        for coefficient, variable in zip(row.coefficients, row.variables, strict=True):
            constraint.SetCoefficient(variables[variable], coefficient)
        constraints.append(constraint)
    goal = solver.Objective()
    for variable, cost in zip(variables, costs, strict=True):
        goal.SetCoefficient(variable, cost)
    goal.SetMinimization()
    solver.SetTimeLimit(max(1, int(seconds * 1000)))
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return Relaxed(0)
    prices = [max(0, int(-constraint.dual_value() * (1 << PRICE_BITS))) for constraint in constraints]
    return Relaxed(_priced(costs, rows, prices) * unit)


def _priced(costs: list[int], rows: list[Row], prices: list[int]) -> int:
    """The least of cost plus priced violation over the unit box, which bounds the program for any prices that are not negative."""
    reduced = [cost << PRICE_BITS for cost in costs]
    paid = 0
    for row, price in zip(rows, prices, strict=True):
        if price:
            paid -= price * row.limit
            for coefficient, variable in zip(row.coefficients, row.variables, strict=True):
                reduced[variable] += price * coefficient
    total = paid + sum(one for one in reduced if one < 0)
    return max(0, -(-total >> PRICE_BITS))


def _row(clause: tuple[Literal, ...]) -> Row:
    """A clause as a row."""
    return Row(
        tuple(-1 if literal >= 0 else 1 for literal in clause),
        tuple(literal if literal >= 0 else ~literal for literal in clause),
        sum(literal < 0 for literal in clause) - 1,
    )


def _model(program: BinaryProgram) -> tuple[cp_model.CpModel, list[cp_model.IntVar]]:
    model = cp_model.CpModel()
    variables = [model.new_bool_var("") for _ in program.costs]
    model.add_bool_and(variables[0])
    for clause in program.clauses:
        model.add_bool_or([variables[one] if one >= 0 else ~variables[~one] for one in clause])
    for row in map(Row.scaled, program.rows):
        terms = cp_model.LinearExpr.weighted_sum([variables[one] for one in row.variables], row.coefficients)
        model.add(terms <= row.limit)
    return model, variables


def _cost(program: BinaryProgram, variables: list[cp_model.IntVar]) -> cp_model.LinearExprT:
    """The cost in units, each rounded down."""
    unit = program.cost_unit()
    return cp_model.LinearExpr.weighted_sum(variables, [cost // unit for cost in program.costs])


def _solver(seconds: float, workers: int) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.01, seconds)
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = 0
    solver.parameters.linearization_level = 2
    if workers > 1:
        solver.parameters.subsolvers.extend(SEARCHES[:workers])
    return solver
