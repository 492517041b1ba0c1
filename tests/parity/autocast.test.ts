// A training step's forward and backward in bfloat16 beside PyTorch's under its autocast (autocast.py).
import { expect, test } from "vitest"
import { callIn, UNet } from "../../src/models/index.ts"
import { aten, noGrad, tidy } from "../../src/torch/index.ts"
import { expectClose, Golden } from "./golden.ts"

const golden = new Golden("autocast")

// bfloat16 rounds by 2^-9; that much may be rounded the other way here and there. Measured on the libtorch that made the golden
// values: 0 where memory lies as in autocast.py; 3.5e-3 with channels side by side, where batch-norm is our own.
const TOLERANCE = 2 ** -7

test.each(["contiguous", "channels_last"] as const)(
  "UNet, %s: logits, gradients, running statistics",
  (memoryFormat) => {
    tidy(() => {
      const model = new UNet({ numClasses: 4, width: 4, depth: 2, upsampling: "transposed" })
      model.loadStateDict(golden.under("state/")).train().to({ memoryFormat })
      const { logits } = callIn("bfloat16", model, golden.get("input"))
      expectClose(logits, golden.get("output"), TOLERANCE, "logits")
      logits.backward({ gradient: golden.get("cotangent") })
      for (const [name, { grad }] of model.namedParameters())
        expectClose(grad, golden.get(`grad ${name}`), TOLERANCE, `gradient of ${name}`)
      for (const [name, buffer] of model.namedBuffers())
        if (name.includes("running")) expectClose(buffer, golden.get(name), TOLERANCE, name)
      model.dispose()
    })
  },
)

test("float32 is something else", () => {
  tidy(() => {
    using _ = noGrad()
    const model = new UNet({ numClasses: 4, width: 4, depth: 2, upsampling: "transposed" })
    model.loadStateDict(golden.under("state/")).train()
    const { logits } = callIn("float32", model, golden.get("input"))
    expect(aten.isclose(logits, golden.get("output"), { rtol: 1e-4 }).all().item()).toBe(0)
    model.dispose()
  })
})
