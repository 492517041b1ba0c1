// How a model's values lie in memory. The results are the same but for the order of sums.
import { levers, type MemoryFormat } from "../torch/index.ts"

/**
 * The faster one: the channels of a pixel side by side ("channels_last"), since our operators (src/torch/kernels.ts) are for that.
 * Milliseconds of one Zen 4 core, contiguous and side by side, best of 3, without the convolutions by tiles, which only the latter
 * has. Steps: DeepLabV3 on ResNet-50 4x128x128 1952 and 1908, UNet-64 4x128x128 3095 and 2984, UNet-8 113 and 88, LR-ASPP on
 * MobileNetV3 4x192x256 326 and 210, DeepLabV3+ on ResNet-18 4x160x160 593 and 553, SegNet 2x128x128 1390 and 1363, LinkNet 4x128x128
 * 265 and 270. Inference 1x256x256: DeepLabV3 on ResNet-50 701 and 621, LR-ASPP 22 and 19, UNet-32 262 and 234, FCN-8s 635 and 630.
 * Convolutions hand the format of their weights on, so the image needs no conversion.
 */
export const preferredMemoryFormat = (): MemoryFormat => (levers.sideBySide ? "channels_last" : "contiguous")
