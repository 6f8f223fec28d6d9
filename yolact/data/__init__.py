"""COCO-format data sets and the augmentation of their pictures, boxes and masks."""
