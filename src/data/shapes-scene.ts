// One picture of the generated data set: shaded, textured shapes on a textured ground, and its mask.
// Made to be learnt in minutes and yet not to be trivial: colour and texture are drawn anew for every object, so only form
// and shading tell the classes apart; shapes cover each other, are cut by the frame, and cast soft shadows.
//
// Everything that decides a mask uses only + - * / and Math.sqrt, which IEEE 754 rounds alike on every machine
// (Math.sin or Math.exp it does not), so the same seed gives the same masks everywhere.
import { ignoreIndex } from "./label-map.ts"
import type { Random } from "./random.ts"

export const shapeClasses = ["background", "disc", "box", "triangle", "ring", "wire"] as const

export type Scene = {
  /** [height, width, 3] RGB, 8 bits */
  readonly image: Uint8Array
  /** [height, width]: index into `shapeClasses`, 255 on a border of about 2.5 pixels around objects, as in VOC */
  readonly mask: Uint8Array
}

type Vector = readonly [number, number, number]

/** Lengths are in pixels of a 128-pixel picture; `unit` scales them to the real size. */
export function renderScene(random: Random, height: number, width: number): Scene {
  const unit = Math.min(height, width) / 128
  const canvas = new Float32Array(height * width * 3)
  const mask = new Uint8Array(height * width)
  const light = unitVector(random, random.uniform(0.5, 0.8))

  const ground = groundColors(random)
  const groundTexture = texture(random, unit * random.uniform(1.5, 3))
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 3) {
      const t = groundTexture(x, y)
      for (let c = 0; c < 3; c++) canvas[i + c] = mix(ground[0][c]!, ground[1][c]!, t)
    }
  }

  // Back to front. Wires come last: they are thin enough to be lost otherwise.
  const solids = Array.from({ length: random.int(3, 6) }, () => random.int(1, 4))
  const wires = random.chance(0.6) ? [5] : []
  for (const kind of [...solids, ...wires]) {
    paint(
      canvas,
      mask,
      height,
      width,
      kind,
      makeShape(kind, random, height, width, unit),
      ground[0],
      light,
      unit,
      random,
    )
  }
  return { image: develop(canvas, height, width, random), mask }
}

/** Where a point lies in a shape: signed distance to its outline (negative inside), and which way its surface leans. */
type Hit = { distance: number; leanX: number; leanY: number }

type Shape = {
  /** Fills in `hit` for a point. Lean is the horizontal part of the surface normal: 0 is flat, length 1 is a vertical wall. */
  readonly at: (x: number, y: number, hit: Hit) => void
  readonly center: readonly [number, number]
  readonly reach: number
  readonly isThin: boolean
}

function makeShape(kind: number, random: Random, height: number, width: number, unit: number): Shape {
  const cx = random.uniform(0.06, 0.94) * width
  const cy = random.uniform(0.06, 0.94) * height
  const [ux, uy] = direction(random)
  const shape = { center: [cx, cy], isThin: false } as const

  if (kind === 1) {
    const radius = random.uniform(12, 26) * unit // a ball: leans outwards, all the way to vertical at its outline
    return {
      ...shape,
      reach: radius,
      at(x, y, hit) {
        const r = length(x - cx, y - cy)
        hit.distance = r - radius
        hit.leanX = (x - cx) / radius
        hit.leanY = (y - cy) / radius
      },
    }
  }
  if (kind === 2) {
    const a = random.uniform(12, 25) * unit // a box lid: flat, with a bevelled edge
    const b = a * random.uniform(0.5, 1)
    const bevel = 0.4 * b
    return {
      ...shape,
      reach: length(a, b),
      at(x, y, hit) {
        const px = (x - cx) * ux + (y - cy) * uy
        const py = (y - cy) * ux - (x - cx) * uy
        const qx = Math.abs(px) - a
        const qy = Math.abs(py) - b
        hit.distance = length(Math.max(qx, 0), Math.max(qy, 0)) + Math.min(Math.max(qx, qy), 0)
        const lean = 0.75 * clamp(1 + hit.distance / bevel)
        const [nx, ny] = qx > qy ? [sign(px) * lean, 0] : [0, sign(py) * lean]
        hit.leanX = nx * ux - ny * uy
        hit.leanY = nx * uy + ny * ux
      },
    }
  }
  if (kind === 3) {
    const inner = random.uniform(9, 15) * unit // a pyramid: three faces, each leaning to its own side
    const sides = triangleNormals(random, ux, uy)
    return {
      ...shape,
      reach: 3.2 * inner,
      at(x, y, hit) {
        hit.distance = Number.NEGATIVE_INFINITY
        for (const [nx, ny] of sides) {
          const distance = (x - cx) * nx + (y - cy) * ny - inner
          if (distance > hit.distance) {
            hit.distance = distance
            hit.leanX = 0.7 * nx
            hit.leanY = 0.7 * ny
          }
        }
      },
    }
  }
  if (kind === 4) {
    const radius = random.uniform(13, 23) * unit // a torus: leans outwards on the outer half, inwards on the inner
    const half = random.uniform(3.2, 6) * unit
    return {
      ...shape,
      reach: radius + half,
      at(x, y, hit) {
        const r = Math.max(length(x - cx, y - cy), 1e-6)
        const lean = (r - radius) / half
        hit.distance = Math.abs(r - radius) - half
        hit.leanX = ((x - cx) / r) * lean
        hit.leanY = ((y - cy) / r) * lean
      },
    }
  }
  const half = random.uniform(1.3, 1.7) * unit // a bent wire: a thin tube along a quadratic curve
  const span = random.uniform(22, 45) * unit
  const bend = random.uniform(-0.6, 0.6) * span
  const points = Array.from({ length: 13 }, (_, i) => {
    const s = i / 6 - 1
    const along = s * span
    const aside = bend * (1 - s * s) - bend / 2
    return [cx + along * ux - aside * uy, cy + along * uy + aside * ux] as const
  })
  return {
    ...shape,
    reach: length(span, bend) + half,
    isThin: true,
    at(x, y, hit) {
      let nearest = Number.POSITIVE_INFINITY
      for (let i = 1; i < points.length; i++) {
        const [ax, ay] = points[i - 1]!
        const [bx, by] = points[i]!
        const t = clamp(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) * (bx - ax) + (by - ay) * (by - ay)))
        const dx = x - ax - t * (bx - ax)
        const dy = y - ay - t * (by - ay)
        const distance = dx * dx + dy * dy
        if (distance < nearest) {
          nearest = distance
          hit.leanX = dx / half
          hit.leanY = dy / half
        }
      }
      hit.distance = Math.sqrt(nearest) - half
    },
  }
}

/** Outward normals of three sides, roughly but not exactly regular; with the inner radius they are the triangle. */
function triangleNormals(random: Random, ux: number, uy: number): (readonly [number, number])[] {
  return [
    [1, 0],
    [-0.5, 0.866],
    [-0.5, -0.866],
  ].map(([x, y]) => {
    const px = x! + random.uniform(-0.22, 0.22)
    const py = y! + random.uniform(-0.22, 0.22)
    const size = length(px, py)
    return [(px * ux - py * uy) / size, (px * uy + py * ux) / size] as const
  })
}

/** Casts the shape's shadow, then paints it over what is there, anti-aliased; and writes class and border into the mask. */
function paint(
  canvas: Float32Array,
  mask: Uint8Array,
  height: number,
  width: number,
  kind: number,
  shape: Shape,
  ground: Vector,
  light: Vector,
  unit: number,
  random: Random,
): void {
  const hit: Hit = { distance: 0, leanX: 0, leanY: 0 }
  const colors = objectColors(random, ground)
  const pattern = texture(random, unit)
  const gloss = random.uniform(0.1, 0.6)
  const blur = (shape.isThin ? 1.5 : 4) * unit
  const lift = (shape.isThin ? 2.5 : 5) * unit
  const darkness = random.uniform(0.35, 0.6)
  const inner = shape.isThin ? 0 : unit // a wire keeps all its pixels, else its border would leave nothing of it
  const outer = (shape.isThin ? 1.2 : 1.5) * unit
  // half way between light and eye, for the highlight
  const half = normalized(light[0], light[1], light[2] + 1)

  const margin = shape.reach + lift + blur + 2
  const top = Math.max(0, Math.floor(shape.center[1] - margin))
  const bottom = Math.min(height, Math.ceil(shape.center[1] + margin))
  const left = Math.max(0, Math.floor(shape.center[0] - margin))
  const right = Math.min(width, Math.ceil(shape.center[0] + margin))
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const pixel = y * width + x
      shape.at(x + 0.5 + lift * light[0], y + 0.5 + lift * light[1], hit)
      const shade = 1 - darkness * (1 - smooth((hit.distance + blur) / (2 * blur)))
      for (let c = 0; c < 3; c++) canvas[3 * pixel + c]! *= shade

      shape.at(x + 0.5, y + 0.5, hit)
      if (hit.distance < -inner) mask[pixel] = kind
      else if (hit.distance < outer) mask[pixel] = ignoreIndex
      const cover = clamp(0.5 - hit.distance)
      if (cover === 0) continue
      const [nx, ny, nz] = surface(hit)
      const diffuse = Math.max(0, nx * light[0] + ny * light[1] + nz * light[2])
      const shine = Math.max(0, nx * half[0] + ny * half[1] + nz * half[2])
      const spark = gloss * shine ** 16
      const brightness = 0.32 + 0.85 * diffuse
      const t = 0.25 + 0.5 * pattern(x, y) // patterns are fainter than form
      for (let c = 0; c < 3; c++) {
        const color = mix(colors[0][c]!, colors[1][c]!, t) * brightness + spark
        canvas[3 * pixel + c] = mix(canvas[3 * pixel + c]!, color, cover)
      }
    }
  }
}

/** The surface normal of a lean, kept from becoming quite vertical. */
function surface({ leanX, leanY }: Hit): Vector {
  const steep = length(leanX, leanY)
  const scale = steep > 0.97 ? 0.97 / steep : 1
  const x = leanX * scale
  const y = leanY * scale
  return [x, y, Math.sqrt(1 - x * x - y * y)]
}

/** The camera: uneven light, darker corners, sensor noise, 8 bits. */
function develop(canvas: Float32Array, height: number, width: number, random: Random): Uint8Array {
  const image = new Uint8Array(canvas.length)
  const clouds = noise(random.int(0, 2 ** 31), 60)
  const exposure = random.uniform(0.9, 1.1)
  const grain = random.uniform(0.01, 0.035)
  const seed = random.int(0, 2 ** 31)
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const fromCenter = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 0.35
      const gain = exposure * (0.85 + 0.3 * clouds(x, y)) * (1 - fromCenter)
      for (let c = 0; c < 3; c++, i++) {
        // four uniform bytes add up to nearly a Gaussian of sigma 148
        const bits = hash(x * 3 + c, y, seed)
        const sum = (bits & 255) + ((bits >>> 8) & 255) + ((bits >>> 16) & 255) + (bits >>> 24) - 510
        image[i] = Math.round(255 * clamp(canvas[i]! * gain + (grain * sum) / 148))
      }
    }
  }
  return image
}

/** A pattern of its own for every surface: 0 to 1 at each pixel. Sizes vary, so that no texture belongs to a class. */
function texture(random: Random, unit: number): (x: number, y: number) => number {
  const [ux, uy] = direction(random)
  const period = random.uniform(5, 14) * unit
  const fine = noise(random.int(0, 2 ** 31), 3 * unit)
  const coarse = noise(random.int(0, 2 ** 31), period * 1.6)
  const along = (x: number, y: number) => (x * ux + y * uy) / period
  const across = (x: number, y: number) => (y * ux - x * uy) / period
  const grain = random.uniform(0.1, 0.35)
  const patterns: ((x: number, y: number) => number)[] = [
    (x, y) => coarse(x, y), // blotches
    (x, y) => smooth(3 * wave(along(x, y)) - 1), // stripes
    (x, y) => smooth(3 * (wave(along(x, y)) * wave(across(x, y)) * 2) - 1), // dots
    (x, y) => clamp(0.5 + along(x, y) * 0.12), // a slow gradient
    (x, y) => smooth(3 * wave(along(x, y) + coarse(x, y)) - 1), // grain of wood
    () => 0.5, // plain
  ]
  const pattern = patterns[random.int(0, patterns.length - 1)]!
  return (x, y) => clamp(pattern(x, y) * (1 - grain) + fine(x, y) * grain)
}

/** Two muted colours that are close to each other. */
function groundColors(random: Random): readonly [Vector, Vector] {
  const hue = random.uniform()
  const value = random.uniform(0.4, 0.95)
  return [
    color(hue, random.uniform(0.1, 0.45), value),
    color(hue + random.uniform(-0.08, 0.08), random.uniform(0.1, 0.45), value * random.uniform(0.72, 0.92)),
  ]
}

/** Two colours of any hue, the first at a visible distance from the ground's. */
function objectColors(random: Random, ground: Vector): readonly [Vector, Vector] {
  const hue = random.uniform()
  let first = color(hue, random.uniform(0.25, 0.8), random.uniform(0.4, 1))
  for (let tries = 0; tries < 20 && distance(first, ground) < 0.5; tries++) {
    first = color(random.uniform(), random.uniform(0.25, 0.8), random.uniform(0.3, 1))
  }
  const second = color(hue + random.uniform(-0.15, 0.15), random.uniform(0.2, 0.8), random.uniform(0.35, 0.95))
  return [first, second]
}

/** HSV to RGB; hue in turns. */
function color(hue: number, saturation: number, value: number): Vector {
  const channel = (offset: number) => {
    const k = (offset + (hue - Math.floor(hue)) * 6) % 6
    return value - value * saturation * clamp(Math.min(k, 4 - k))
  }
  return [channel(5), channel(3), channel(1)]
}

/** Value noise: random numbers on a grid of `size` pixels, smoothly joined, in three octaves; 0 to 1. */
function noise(seed: number, size: number): (x: number, y: number) => number {
  const octave = (x: number, y: number, layer: number) => {
    const ix = Math.floor(x)
    const iy = Math.floor(y)
    const sx = smooth(x - ix)
    const value = (dx: number, dy: number) => hash(ix + dx, iy + dy, seed + layer) / 2 ** 32
    return mix(mix(value(0, 0), value(1, 0), sx), mix(value(0, 1), value(1, 1), sx), smooth(y - iy))
  }
  return (x, y) =>
    (4 * octave(x / size, y / size, 0) +
      2 * octave((2 * x) / size, (2 * y) / size, 1) +
      octave((4 * x) / size, (4 * y) / size, 2)) /
    7
}

/** 32 random bits of a grid point (the mixing steps of murmur3). */
function hash(x: number, y: number, seed: number): number {
  let h = Math.imul(x, 0x9e3779b1) ^ Math.imul(y, 0x85ebca77) ^ Math.imul(seed, 0xc2b2ae3d)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A random direction in the plane, without trigonometry: a point in the unit disc, pushed to its edge. */
function direction(random: Random): readonly [number, number] {
  while (true) {
    const x = random.uniform(-1, 1)
    const y = random.uniform(-1, 1)
    const r = length(x, y)
    if (r > 0.1 && r <= 1) return [x / r, y / r]
  }
}

function unitVector(random: Random, up: number): Vector {
  const [x, y] = direction(random)
  return normalized(x * (1 - up), y * (1 - up), up)
}

function normalized(x: number, y: number, z: number): Vector {
  const size = Math.sqrt(x * x + y * y + z * z)
  return [x / size, y / size, z / size]
}

const length = (x: number, y: number) => Math.sqrt(x * x + y * y)
const sign = (x: number) => (x < 0 ? -1 : 1)
const clamp = (x: number) => (x < 0 ? 0 : x > 1 ? 1 : x)
const mix = (a: number, b: number, t: number) => a + (b - a) * t
const distance = (a: Vector, b: Vector) => Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]) + Math.abs(a[2] - b[2])

/** 0 below 0, 1 above 1, an S between. */
function smooth(x: number): number {
  const t = clamp(x)
  return t * t * (3 - 2 * t)
}

/** A triangle wave of period 1, from 0 to 1. */
const wave = (x: number) => Math.abs(2 * (x - Math.floor(x)) - 1)
