// Every operator of the package: the table of contents. Defaults and argument checks that a caller sees live in
// yolact/ops; each operator is implemented in the file of its name, per device.
#include "support.h"

YOLACT_STABLE_LIBRARY(YOLACT_LIBRARY, m) {
  m.def(
      "fast_nms(Tensor boxes, Tensor scores, *, float iou_threshold, int top_k, SymInt max_detections,"
      " float? score_threshold, bool across_classes, str method, float union_eps, bool plus_one, bool suppress_equal)"
      " -> (Tensor index, Tensor label, Tensor score, Tensor count)");
  m.def(
      "detect(Tensor box_deltas, Tensor class_logits, Tensor priors, *, float score_threshold, bool second_threshold,"
      " float iou_threshold, int top_k, SymInt max_detections, bool across_classes, str method, float[2] variances,"
      " float? max_log_size, bool clip, float union_eps, SymInt[]? level_sizes, int? pre_nms_top_k)"
      " -> (Tensor boxes, Tensor label, Tensor score, Tensor prior, Tensor count)");
  m.def(
      "assemble_masks(Tensor prototypes, Tensor coefficients, Tensor boxes, SymInt[2] size, *, Tensor? count,"
      " str layout, str box_unit, str activation, float threshold, str crop, float padding, Tensor? source_region,"
      " bool packed) -> Tensor");
  m.def(
      "assemble_run_lengths(Tensor prototypes, Tensor coefficients, Tensor boxes, Tensor sizes, *, Tensor? count,"
      " SymInt capacity, str layout, str box_unit, str activation, float threshold, str crop, float padding,"
      " Tensor? source_region) -> (Tensor data, Tensor length, Tensor needed, Tensor size)");
  m.def(
      "encode_run_lengths(Tensor masks, *, SymInt capacity)"
      " -> (Tensor data, Tensor length, Tensor needed, Tensor size)");
  m.def(
      "decode_run_lengths(Tensor data, Tensor length, Tensor needed, Tensor sizes, SymInt[2] size)"
      " -> (Tensor masks, Tensor error)");
  m.def("gather_run_lengths(Tensor data, Tensor length, Tensor needed, Tensor size, Tensor(a!) out) -> ()");
  m.def(
      "mask_loss(Tensor prototypes, Tensor coefficients, Tensor picture, Tensor truth, Tensor boxes, Tensor masks, *,"
      " float padding) -> Tensor");
  m.def(
      "mask_loss_backward(Tensor loss_gradient, Tensor prototypes, Tensor coefficients, Tensor picture, Tensor truth,"
      " Tensor boxes, Tensor masks, *, float padding) -> (Tensor prototypes, Tensor coefficients)");
  m.def(
      "deform_conv2d(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, *, SymInt[2] stride,"
      " SymInt[2] padding, SymInt[2] dilation, bool deterministic) -> Tensor");
  m.def(
      "deform_conv2d_backward(Tensor gradient, Tensor input, Tensor offset, Tensor weight, Tensor? mask, *,"
      " SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, bool deterministic, bool[4] wanted)"
      " -> (Tensor input, Tensor offset, Tensor weight, Tensor mask)");
  m.def("preprocess(Tensor pictures, SymInt[2] size, float[3] mean, float[3] std, *, bool round_to_uint8) -> Tensor");
  m.def("current_stream(int device) -> int");
}
