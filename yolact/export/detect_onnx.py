"""`yolact.ops.detect` in standard ONNX operators: the graph that follows the network in an exported file.

What makes it exact is TopK, which by the standard has the lower index come first among equals: ties of scores, and the
order of what merely stays, come out as the operator's. NaN is nobody's candidate, as comparisons with it are false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolact.errors import UserError
from yolact.ops.fast_nms import rows_of
from yolact.options import DetectOptions

if TYPE_CHECKING:
    import onnx

OPSET = 18  # of ONNX: the first whose Split and Reduce operators are written as here
IR_VERSION = 8  # the form of the file that came with it


def detect_graph(
    options: DetectOptions,
    count: int,  # P, priors
    classes: int,  # C, foreground
    channels: int,  # K
) -> onnx.ModelProto:
    """The model from the fields of `RawOutputs`, but the prototypes, to detections.

    Its outputs are the fields of `Detections`, in as many rows as `max_detections` says, and coefficients [B, D, K],
    those of each detection's prior, 0 in rows past the count.

    Raises:
        UserError: the options ask for traditional NMS.
    """
    import onnx

    if options.method != "fast":
        raise UserError(f"method {options.method!r}: only Fast NMS is written in ONNX's standard operators")
    rows = rows_of(options.max_detections, options.top_k, classes, count, options.across_classes)
    across = options.across_classes
    groups = 1 if across else classes
    scale, clip = options.max_log_size, options.clip
    log_size = "Identity(log_scale)" if scale is None else "Clip(log_scale, min_log_size, max_log_size)"
    all_boxes = "Clip(corners, zero, one)" if clip else "Identity(corners)"
    group_score = "ReduceMax(by_class, axis_1)" if across else "Identity(by_class)"
    above = f"Greater(group_score, {'score_threshold' if options.second_threshold else 'none'})"
    stays = _stays(options, count)
    union = "Max(exact_union, union_eps)" if options.union_eps > 0 else "Identity(exact_union)"
    best_class = "ArgMax <axis = 1, keepdims = 0> (by_class)"
    pick_label = "GatherElements <axis = 1> (best_class, place)" if across else "Div(pick, ranks)"
    text = f"""
<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
detect (
  float[batch, {count}, 4] box_deltas,
  float[batch, {count}, {1 + classes}] class_logits,
  float[batch, {count}, {channels}] mask_coefficients,
  float[{count}, 4] priors
) => (
  float[batch, {rows}, 4] boxes,
  int64[batch, {rows}] label,
  float[batch, {rows}] score,
  int64[batch, {rows}] prior,
  float[batch, {rows}, {channels}] coefficients,
  int64[batch] count
)
<
  float zero = {{0.0}}, float half = {{0.5}}, float one = {{1.0}}, float two = {{2.0}}, float none = {{-1.0}},
  int64 no_row = {{-1}}, int64 first_row = {{0}}, int64 one_row = {{1}}, int64[1] one_length = {{1}},
  int64[1] axis_1 = {{1}}, int64[1] axis_2 = {{2}}, int64[1] foreground = {{1}}, int64[1] logits = {{{1 + classes}}},
  int64[1] top_k = {{{options.top_k}}}, int64[1] rows = {{{rows}}}, int64[4] room = {{0, 0, 0, {rows}}},
  int64[2] flat = {{0, -1}}, int64[4] by_group = {{0, {groups}, -1, 4}},
  float centre_variance = {{{options.variances[0]!r}}}, float size_variance = {{{options.variances[1]!r}}},
  float max_log_size = {{{scale or 0.0!r}}}, float min_log_size = {{{-(scale or 0.0)!r}}},
  float score_threshold = {{{options.score_threshold!r}}}, float iou_threshold = {{{options.iou_threshold!r}}},
  float union_eps = {{{options.union_eps!r}}}
>
{{
  # Boxes: centres and sizes against the priors, then corners.
  prior_centre, prior_size = Split <axis = -1, num_outputs = 2> (priors)
  centre_delta, size_delta = Split <axis = -1, num_outputs = 2> (box_deltas)
  shift = Mul(centre_delta, centre_variance)
  offset = Mul(shift, prior_size)
  centre = Add(prior_centre, offset)
  log_scale = Mul(size_delta, size_variance)
  log_size = {log_size}
  growth = Exp(log_size)
  size = Mul(prior_size, growth)
  half_size = Div(size, two)
  low = Sub(centre, half_size)
  high = Add(size, low)
  corners = Concat <axis = -1> (low, high)
  all_boxes = {all_boxes}  # [B, P, 4]

  # The priors that stay: their best foreground probability is above the threshold, their box has no NaN.
  every_probability = Softmax <axis = -1> (class_logits)
  probabilities = Slice(every_probability, foreground, logits, axis_2)  # [B, P, C]
  best = ReduceMax <keepdims = 0> (probabilities, axis_2)
  confident = Greater(best, score_threshold)
  edge_is_nan = IsNaN(all_boxes)
  edge_fault = Cast <to = 1> (edge_is_nan)
  box_fault = ReduceMax <keepdims = 0> (edge_fault, axis_2)
  whole = Less(box_fault, half)
  may_stay = And(confident, whole)
  {stays}

  # They move together, in the order of their numbers, into as many places as the fullest picture needs: n.
  staying = Cast <to = 1> (stays)
  staying_count = Cast <to = 7> (staying)
  picture_count = ReduceSum <keepdims = 0> (staying_count, axis_1)
  most = ReduceMax <keepdims = 1> (picture_count)
  places = Max(most, one_length)
  is_candidate, candidate = TopK <axis = 1> (staying, places)  # [B, n]
  valid = Greater(is_candidate, half)
  candidate_at = Unsqueeze(candidate, axis_2)
  boxes_there = GatherND <batch_dims = 1> (all_boxes, candidate_at)  # [B, n, 4]
  probabilities_there = GatherND <batch_dims = 1> (probabilities, candidate_at)  # [B, n, C]
  by_class = Transpose <perm = [0, 2, 1]> (probabilities_there)  # [B, C, n]
  group_score = {group_score}  # [B, groups, n]
  valid_in_group = Unsqueeze(valid, axis_1)
  above = {above}
  eligible = And(valid_in_group, above)
  candidate_score = Where(eligible, group_score, none)

  # Fast NMS: the best k of each group, a class or all classes together; one falls to any better that overlaps it.
  ranks = Min(places, top_k)
  ranked, order = TopK <axis = 2> (candidate_score, ranks)  # [B, groups, k]
  flat_order = Reshape(order, flat)  # [B, groups * k]
  order_at = Unsqueeze(flat_order, axis_2)
  flat_boxes = GatherND <batch_dims = 1> (boxes_there, order_at)
  ranked_boxes = Reshape(flat_boxes, by_group)  # [B, groups, k, 4]
  x1, y1, x2, y2 = Split <axis = -1, num_outputs = 4> (ranked_boxes)  # [B, groups, k, 1]
  width = Sub(x2, x1)
  height = Sub(y2, y1)
  area = Mul(width, height)
  other_x1 = Transpose <perm = [0, 1, 3, 2]> (x1)  # [B, groups, 1, k]
  other_y1 = Transpose <perm = [0, 1, 3, 2]> (y1)
  other_x2 = Transpose <perm = [0, 1, 3, 2]> (x2)
  other_y2 = Transpose <perm = [0, 1, 3, 2]> (y2)
  other_area = Transpose <perm = [0, 1, 3, 2]> (area)
  left = Max(x1, other_x1)
  top = Max(y1, other_y1)
  right = Min(x2, other_x2)
  bottom = Min(y2, other_y2)
  shared_width = Sub(right, left)
  shared_height = Sub(bottom, top)
  overlap_width = Max(shared_width, zero)
  overlap_height = Max(shared_height, zero)
  intersection = Mul(overlap_width, overlap_height)
  areas = Add(area, other_area)
  exact_union = Sub(areas, intersection)
  union = {union}
  iou = Div(intersection, union)
  apart = LessOrEqual(iou, iou_threshold)  # not so for 0 / 0
  together = Not(apart)
  overlaps = Cast <to = 1> (together)
  falls_to = Trilu <upper = 1> (overlaps, one_row)  # [.., j, i]: i falls to the better j
  fallen = ReduceMax <keepdims = 0> (falls_to, axis_2)  # [B, groups, k]
  stands = Less(fallen, half)
  scored = GreaterOrEqual(ranked, zero)
  kept = And(stands, scored)
  kept_score = Where(kept, ranked, none)

  # All groups together by falling score: the first D, or fewer and padding.
  flat_score = Reshape(kept_score, flat)
  roomy_score = Pad(flat_score, room, none)
  final_score, final_pick = TopK <axis = 1> (roomy_score, rows)  # [B, D]
  real = GreaterOrEqual(final_score, zero)
  pick = Where(real, final_pick, first_row)
  place = GatherElements <axis = 1> (flat_order, pick)
  best_class = {best_class}
  pick_label = {pick_label}
  pick_prior = GatherElements <axis = 1> (candidate, place)
  prior_at = Unsqueeze(pick_prior, axis_2)
  pick_box = GatherND <batch_dims = 1> (all_boxes, prior_at)
  pick_coefficients = GatherND <batch_dims = 1> (mask_coefficients, prior_at)
  real_row = Unsqueeze(real, axis_2)
  boxes = Where(real_row, pick_box, zero)
  label = Where(real, pick_label, no_row)
  score = Where(real, final_score, zero)
  prior = Where(real, pick_prior, no_row)
  coefficients = Where(real_row, pick_coefficients, zero)
  real_count = Cast <to = 7> (real)
  count = ReduceSum <keepdims = 0> (real_count, axis_1)
}}"""
    model = onnx.parser.parse_model(text)
    _prune(model.graph)
    return model


def _stays(options: DetectOptions, count: int) -> str:
    """The lines that leave of each level only the best `pre_nms_top_k` that may stay, as mmdetection has it."""
    if options.pre_nms_top_k is None:
        return "stays = Identity(may_stay)"
    levels = [(f"level_{i}", size) for i, size in enumerate(options.level_sizes or (count,))]
    sizes = ", ".join(str(size) for _, size in levels)
    lines = [
        "candidate_best = Where(may_stay, best, none)",
        f"level_sizes = Constant <value_ints = [{sizes}]> ()",
        f"{', '.join(name for name, _ in levels)} = Split <axis = 1> (candidate_best, level_sizes)",
        f"level_top_k = Constant <value_ints = [{options.pre_nms_top_k}]> ()",
    ]
    for name, size in levels:
        if size <= options.pre_nms_top_k:
            lines.append(f"{name}_score = Identity({name})")
            continue
        lines += [
            f"{name}_best, {name}_index = TopK <axis = 1> ({name}, level_top_k)",
            f"{name}_shape = Shape({name})",
            f"{name}_none = Expand(none, {name}_shape)",
            f"{name}_score = ScatterElements <axis = 1> ({name}_none, {name}_index, {name}_best)",
        ]
    lines += [
        f"level_score = Concat <axis = 1> ({', '.join(f'{name}_score' for name, _ in levels)})",
        "stays = GreaterOrEqual(level_score, zero)",
    ]
    return "\n  ".join(lines)


def _prune(graph: onnx.GraphProto) -> None:
    """Take out the nodes and constants that these options have no use for."""
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for constant in [one for one in graph.initializer if one.name not in needed]:
        graph.initializer.remove(constant)
