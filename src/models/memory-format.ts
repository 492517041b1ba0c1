// How a model's values lie in memory. The results are the same but for the order of sums.
import { Conv2d } from "../nn/index.ts"
import { levers, type MemoryFormat } from "../torch/index.ts"
import { deviceOf, type SegmentationModel } from "./model.ts"

/**
 * The faster one of a model: its channels side by side ("channels_last") where its encoder filters each channel by itself.
 * Measured on two cores: LR-ASPP on mobilenet_v2_0.35, 8x288x384, step 1.10x, inference 1.9x; but UNet-32 0.90x, DeepLabV3
 * on ResNet-18 0.85x. DeepLabV3+ filters so in its decoder, but on ResNet-18 that is not enough: 4x160x160, one core, step
 * 0.89x, inference 0.92x. Convolutions hand the format of their weights on, so the image needs no
 * conversion. On CUDA it is the format of tensor cores: always.
 */
export function preferredMemoryFormat(model: SegmentationModel, device = deviceOf(model)): MemoryFormat {
  if (!levers.sideBySide) return "contiguous"
  if (device !== "cpu") return "channels_last"
  for (const [, module] of (model.backbone ?? model).namedModules()) {
    if (module instanceof Conv2d && module.groups > 1) return "channels_last"
  }
  return "contiguous"
}
