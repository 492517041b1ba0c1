// The page about a data set: what may be wrong with it, and what it holds. Each part says what it shows, why that matters and
// what to do about it, to someone who trains a model for the first time.
import type { LabelMap } from "../data/label-map.ts"
import { classWeightingNames } from "../losses/class-weights.ts"
import { ratio } from "../metrics/means.ts"
import { barChart } from "../report/charts/bar.ts"
import { heatmap } from "../report/charts/heatmap.ts"
import { histogram } from "../report/charts/histogram.ts"
import { scatterChart } from "../report/charts/scatter.ts"
import { chartGrid, dataTable, figure, gallery, type Html, html, notice, page, section } from "../report/html.ts"
import { list } from "../report/words.ts"
import { plural } from "../train/facts.ts"
import { countEach, type Exploration } from "./explore.ts"
import { FLAT } from "./inspect.ts"
import { entryPicture, legend, oneByOne, swatch } from "./pictures.ts"
import { problemsSection } from "./problems-section.ts"
import { ALIKE } from "./similar.ts"
import { quantile, SPECK, type Statistics, scoreOfOnly, sideOf } from "./statistics.ts"
import { percent } from "./words.ts"

/** One self-contained HTML file. */
export async function explorePage(exploration: Exploration): Promise<string> {
  const { files } = exploration
  return page({
    title: `Data set: ${files.root}`,
    lead: "What this data set holds, what may be wrong with it, and what to do about that before a model is trained on it.",
    sections: [
      glance(exploration),
      await problemsSection(exploration),
      await samplesSection(exploration),
      frequencySection(exploration),
      await rareSection(exploration),
      togetherSection(exploration),
      objectsSection(exploration),
      sizesSection(exploration),
      await voidSection(exploration),
      weightsSection(exploration),
      methodSection(),
    ].filter((part) => part !== null),
  })
}

// --- at a glance ----------------------------------------------------------------------------------------------------------

function glance({ files, facts, statistics, perSplit }: Exploration): Html {
  const indices = (split: string) => files.entries.flatMap(({ splits }, i) => (splits.includes(split) ? [i] : []))
  const rows = files.splits.map((split) => {
    const its = perSplit.get(split)!
    const present = its.classes.filter(({ pixels }) => pixels > 0).length
    return [
      split,
      indices(split).length,
      indices(split).filter((i) => facts[i]!.image).length,
      its.masks,
      `${present} of ${its.classes.length}`,
      percent(ratio(its.void, its.pixels)),
    ]
  })
  const named = statistics.classes.map(({ name }) => name)
  return section(
    "At a glance",
    dataTable({
      head: ["list", "ids", "images read", "masks read", "classes that occur", "void, % of pixels"],
      rows,
    }),
    html`<p>${plural(named.length, "class", "classes")}: ${named.join(", ")}. ${
      files.labelMap.background === undefined
        ? "None of them is called background."
        : "Background is all that is none of the others."
    } Void pixels (number ${files.source.ignore.index}) count in no loss and in no score.</p>`,
    !files.hasImages && notice("There are no images here, so all that follows is told from the masks alone."),
  )
}

// --- pictures -------------------------------------------------------------------------------------------------------------

const SAMPLES = 12

async function samplesSection(exploration: Exploration): Promise<Html | null> {
  const { files, facts } = exploration
  const usable = files.entries.flatMap(({ splits }, i) =>
    splits.includes(files.splits[0]!) && facts[i]!.mask ? [i] : [],
  )
  if (usable.length === 0) return null
  const chosen = evenly(usable, SAMPLES)
  return section(
    "Samples",
    html`<p>${plural(chosen.length, "sample")} of ${files.splits[0]}, evenly spread over the list. The labels lie over the image as tints with white outlines. Look at them before anything else: are the outlines where they should be, is anything forgotten, is any class called by a wrong name? A model learns such mistakes as if they were true.</p>`,
    gallery(await figures(exploration, chosen)),
  )
}

/** Some of the items, evenly spread over them. */
function evenly<T>(items: readonly T[], most: number): T[] {
  const count = Math.min(most, items.length)
  return Array.from({ length: count }, (_, k) => items[Math.floor(((k + 0.5) * items.length) / count)]!)
}

const figures = ({ files, facts }: Exploration, indices: readonly number[], captionOf?: (i: number) => string) =>
  oneByOne(indices, async (i) => {
    const picture = await entryPicture(files.entries[i]!, facts[i]!, files)
    const caption = captionOf && html`<br>${captionOf(i)}`
    return picture && figure(picture, html`<code>${files.entries[i]!.id}</code> ${legend(facts[i]!, files)}${caption}`)
  })

const RAREST = 4
const EXAMPLES = 4

async function rareSection(exploration: Exploration): Promise<Html | null> {
  const { files, facts, statistics } = exploration
  const { background } = files.labelMap
  const occurring = [...statistics.classes.entries()]
    .filter(([k, { pixels }]) => k !== background && pixels > 0)
    .sort(([, a], [, b]) => a.pixels - b.pixels)
  if (occurring.length < 2) return null
  const rarest = occurring.slice(0, Math.min(RAREST, Math.ceil(occurring.length / 2)))
  const pixelsIn = (i: number, k: number) => facts[i]!.mask?.pixels[k] ?? 0
  const parts = await oneByOne(rarest, async ([k, { name, share, images }]) => {
    const having = files.entries.flatMap((_, i) => (pixelsIn(i, k) > 0 && isShowable(exploration, i) ? [i] : []))
    const large = having
      .toSorted((a, b) => pixelsIn(b, k) - pixelsIn(a, k))
      .slice(0, Math.max(EXAMPLES, Math.ceil(having.length / 4)))
    const chosen = evenly(
      large.toSorted((a, b) => a - b), // in the order of the list: those beside one another are often of one place
      EXAMPLES,
    )
    const portion = (i: number) => {
      const { width, height } = facts[i]!.mask!
      return `${name}: ${percent(pixelsIn(i, k) / (width * height))} % of the pixels`
    }
    return html`<h3>${swatch(k, files)} ${name}: ${percent(share)} % of all pixels, in ${plural(images, "mask")}</h3>
${gallery(await figures(exploration, chosen, portion))}`
  })
  return section(
    "The rarest classes",
    html`<p>The ${plural(rarest.length, "class", "classes")} with the fewest pixels, in masks that have much of them. A model learns last, and worst, what it sees least. If these pictures are few and much alike, the score of the class will depend on luck: collect more of them before trying other models.</p>`,
    parts,
  )
}

const isShowable = ({ facts }: Exploration, i: number): boolean => facts[i]!.mask?.unknown.length === 0

// --- classes --------------------------------------------------------------------------------------------------------------

/** From here on shares are drawn on an axis of powers of ten: bars of small classes would have no width. */
const MANYFOLD = 30

/** So many bars still fit on a screen. */
const MOST_BARS = 40

function frequencySection({ files, statistics, perSplit }: Exploration): Html | null {
  const { classes } = statistics
  const occurring = classes.filter(({ pixels }) => pixels > 0)
  if (occurring.length === 0) return null
  const several = files.splits.length > 1
  const columns: { head: string; cell: (k: number) => string | number }[] = [
    ...(several
      ? files.splits.map((split) => ({
          head: `% of pixels, ${split}`,
          cell: (k: number) => percent(perSplit.get(split)!.classes[k]!.share),
        }))
      : [{ head: "% of pixels", cell: (k: number) => percent(classes[k]!.share) }]),
    ...files.splits.map((split) => ({
      head: several ? `masks, ${split}` : "masks",
      cell: (k: number) => perSplit.get(split)!.classes[k]!.images.toLocaleString("en"),
    })),
    {
      head: "% of its masks' pixels",
      cell: (k) => percent(ratio(classes[k]!.pixels, classes[k]!.pixelsOfItsImages)),
    },
  ]
  const byPixels = occurring.toSorted((a, b) => b.pixels - a.pixels)
  const byMasks = occurring.toSorted((a, b) => b.images - a.images)
  const log = byPixels[0]!.pixels > MANYFOLD * byPixels.at(-1)!.pixels
  const left = occurring.length - MOST_BARS
  return section(
    "How often each class occurs",
    html`<p>Counted two ways: the share of all pixels that have the class, and the masks in which it occurs at all. Losses add up over pixels, so a model works for the classes with many pixels first; whether it has seen a class in enough different places, the number of masks tells better.</p>`,
    trivialNotice(statistics, files.labelMap),
    chartGrid([
      barChart({
        title: "Share of pixels",
        unit: "per cent",
        log,
        bars: byPixels.slice(0, MOST_BARS).map(({ name, share }) => ({ label: name, value: rounded(100 * share!) })),
      }),
      barChart({
        title: "Masks with the class",
        unit: "masks",
        bars: byMasks.slice(0, MOST_BARS).map(({ name, images }) => ({ label: name, value: images })),
      }),
    ]),
    left > 0 && html`<p>The ${plural(left, "class", "classes")} with the least are in the table alone.</p>`,
    dataTable({
      head: ["class", ...columns.map(({ head }) => head)],
      rows: classes.map(({ name }, k) => [html`${swatch(k, files)} ${name}`, ...columns.map(({ cell }) => cell(k))]),
    }),
    several &&
      html`<p><strong>What to do:</strong> compare the lists. Where a class has a much larger share in one than in the other, or very few masks in ${files.splits.at(-1)!}, its score says little; choose the lists anew, at random.</p>`,
  )
}

/** What must be beaten: the score of saying one class everywhere. */
function trivialNotice(statistics: Statistics, { classes, background }: LabelMap): Html | null {
  const largest = statistics.classes.reduce((best, { pixels }, k, all) => (pixels > all[best]!.pixels ? k : best), 0)
  const k = background ?? largest
  const score = scoreOfOnly(k, statistics)
  return (
    score &&
    notice(
      html`A model that says <strong>${classes[k]!.name}</strong> everywhere, and has learned nothing, is right on ${percent(score.pixelAccuracy)} % of the pixels. Its mean IoU is ${percent(score.meanIoU)} %. Never judge by pixel accuracy alone, and call a model good only when it is far above both.`,
    )
  )
}

/** In fewer masks, classes are together by chance. */
const FEW_MASKS = 5

function togetherSection({ files, statistics: { masks, classes, together } }: Exploration): Html | null {
  const { background } = files.labelMap
  const shown = [...classes.keys()].filter((k) => k !== background && classes[k]!.pixels > 0)
  if (shown.length < 2) return null
  const shareWith = (k: number, other: number) => together[k]![other]! / together[k]![k]!
  const pairs = shown
    .flatMap((k) => shown.filter((other) => other !== k).map((other) => ({ k, other, share: shareWith(k, other) })))
    .filter(({ k, share }) => share >= 0.5 && classes[k]!.images >= FEW_MASKS)
    .filter(({ other }) => classes[other]!.images < 0.8 * masks) // else everything is in company with it
    .sort((a, b) => b.share - a.share)
    .slice(0, 3)
  const name = (k: number) => classes[k]!.name
  const told = pairs.map(({ k, other, share }) => `${name(k)} with ${name(other)} (${percent(share)} %)`)
  return section(
    "Which classes occur together",
    html`<p>Read along a row: of the masks with this class, how many per cent have the other class too. A model learns company as well as looks. Where one class hardly ever comes without another, it may find the one because the other is there, and fail when it is not.</p>`,
    heatmap({
      title: "Masks with both classes",
      rows: shown.map(name),
      columns: shown.map(name),
      values: shown.map((k) => shown.map((other) => (other === k ? null : 100 * shareWith(k, other)))),
      format: (value) => (value > 0 && value < 1 ? "<1" : value.toFixed(0)),
      rowTitle: "of the masks with",
      columnTitle: "per cent have also",
      most: 100,
    }),
    told.length > 0 &&
      html`<p>Most often in company: ${list(told)}. <strong>What to do:</strong> when the model confuses such classes, add images in which they are apart.</p>`,
  )
}

// --- sizes ----------------------------------------------------------------------------------------------------------------

const SMALL = 32 * 32 // pixels: what COCO calls small

function objectsSection({ files, statistics }: Exploration): Html | null {
  const classes = [...statistics.classes.entries()].filter(([, { objects }]) => objects.length > 0)
  if (classes.length === 0) return null
  const all = classes.flatMap(([, { objects }]) => objects)
  const small = ratio(all.filter((pixels) => pixels < SMALL).length, all.length)
  const side = (pixels: number) => sideOf(pixels).toFixed(0)
  return section(
    "Sizes of objects",
    html`<p>An object here is a connected piece of one class in a mask: objects of the same class that touch count as one, and one that something else cuts in two counts twice. Pieces of fewer than ${SPECK} pixels are no objects but specks. An object's size is told as the side of the square that has as many pixels. ${percent(small)} % of all ${plural(all.length, "object")} are smaller than 32 x 32 pixels.</p>`,
    chartGrid([
      histogram({
        title: "Objects of all classes",
        unit: "side, pixels",
        values: all.map(sideOf),
        log: true,
        of: "objects",
      }),
    ]),
    dataTable({
      head: ["class", "objects", "smaller than 32 x 32, %", "median side, px", "largest side, px", "specks"],
      rows: classes.map(([k, { name, objects, specks }]) => [
        html`${swatch(k, files)} ${name}`,
        objects.length.toLocaleString("en"),
        percent(ratio(objects.filter((pixels) => pixels < SMALL).length, objects.length)),
        side(quantile(objects, 0.5)),
        side(objects.at(-1)!),
        specks.toLocaleString("en"),
      ]),
    }),
    html`<p><strong>What to do:</strong> a model sees the image on a grid of its output stride, mostly 8, 16 or 32 pixels. An object that is smaller than that leaves next to no trace there. For classes of small objects use a small output stride (<code>--output-stride 8</code>) or a model with skip connections such as UNet, and do not shrink the images. Specks are mostly slips of the annotator's hand or of a tool; a few do no harm, and thousands are worth cleaning up.</p>`,
  )
}

const MOST_SIZES = 5
const LARGE_CROP = 769 // what papers use for street scenes

function sizesSection({ facts }: Exploration): Html | null {
  const sizes = facts.flatMap(({ image, mask }) => image ?? mask ?? [])
  if (sizes.length === 0) return null
  const each = countEach(sizes.map(({ width, height }) => `${width} x ${height}`))
  const longest = sizes.map(({ width, height }) => Math.max(width, height)).sort((a, b) => a - b)
  const most = each.slice(0, MOST_SIZES).map(([size, times]) => `${size} (${times.toLocaleString("en")})`)
  const more = each.length - most.length
  const side = quantile(longest, 0.9)
  const crop = 32 * Math.ceil(side / 32) + 1
  return section(
    "Sizes of images",
    each.length === 1
      ? html`<p>All ${plural(sizes.length, "image")} are ${each[0]![0]} pixels.</p>`
      : html`<p>Width x height in pixels, and how many images have it: ${most.join(", ")}${more > 0 && ` and ${plural(more, "more size", "more sizes")}`}.</p>`,
    each.length > 1 &&
      chartGrid([
        scatterChart({
          title: "Images",
          x: { name: "width", unit: "pixels" },
          y: { name: "height", unit: "pixels" },
          points: sizes.map(({ width, height }) => [width, height]),
        }),
      ]),
    html`<p><strong>What to do:</strong> training cuts crops of one size out of the images. Nine of ten images have no side longer than ${side.toLocaleString("en")} pixels${
      crop <= LARGE_CROP
        ? html`, so that <code>--crop ${crop}</code> sees them whole`
        : html`: too much for most memories, so that crops see parts of them`
    }. Smaller crops are faster, and show less of an object's surroundings. Scores are always measured on whole images.</p>`,
  )
}

/** Masks with more void than this are shown. */
const MUCH_VOID = 0.2

async function voidSection(exploration: Exploration): Promise<Html | null> {
  const { facts, statistics } = exploration
  if (statistics.void === 0) return null
  const shareIn = (i: number) => voidShare(facts[i]!.mask!)
  const masks = [...facts.keys()].filter((i) => facts[i]!.mask).sort((a, b) => shareIn(b) - shareIn(a))
  const most = masks.slice(0, EXAMPLES).filter((i) => shareIn(i) >= MUCH_VOID && isShowable(exploration, i))
  return section(
    "Void",
    html`<p>${percent(ratio(statistics.void, statistics.pixels))} % of all pixels are void: nobody said what they are, so they count in no loss and in no score. PASCAL VOC draws a void line of about 5 pixels around every object, which is 5.5 % of its pixels.</p>`,
    chartGrid([
      histogram({
        title: "Void in each mask",
        unit: "per cent of its pixels",
        values: masks.map((i) => 100 * shareIn(i)),
        of: "masks",
      }),
    ]),
    html`<p><strong>What to do:</strong> nothing, where void is a line around objects. Where whole objects or regions are void, scores say nothing about them: a model may do there what it likes.${most.length > 0 && " These have the most:"}</p>`,
    most.length > 0 && gallery(await figures(exploration, most, (i) => `${percent(shareIn(i))} % void`)),
  )
}

const voidShare = ({ void: pixels, width, height }: { void: number; width: number; height: number }): number =>
  pixels / (width * height)

// --- weights --------------------------------------------------------------------------------------------------------------

/** Up to here, times as many pixels make no difference that weights would mend. */
const ALIKE_SHARES = 5

function weightsSection({ files, perSplit, weights }: Exploration): Html | null {
  if (weights === null) return null
  const training = perSplit.get(files.splits[0]!)!
  const shares = training.classes.flatMap(({ share }) => (share ? [share] : []))
  const ratio = Math.max(...shares) / Math.min(...shares)
  return section(
    "Suggested class weights",
    html`<p>A weight says how much a pixel of the class counts in the loss. Counted in ${files.splits[0]}, the most frequent class has ${rounded(ratio).toLocaleString("en")} times the pixels of the rarest.</p>`,
    ratio < ALIKE_SHARES
      ? html`<p><strong>What to do:</strong> the classes are alike enough to train without weights.</p>`
      : html`<p><strong>What to do:</strong> train without weights first. If rare classes stay at an IoU of 0, train again with <code>--class-weights median</code>, or with <code>enet</code>, whose weights lie between 1.4 and 51 whatever the data. Weights make a model find rare classes more often, also where they are not: look at their precision, too.</p>`,
    dataTable({
      head: ["class", ...classWeightingNames],
      rows: training.classes.map(({ name, pixels }, k) => [
        html`${swatch(k, files)} ${name}`,
        ...classWeightingNames.map((weighting) => (pixels === 0 ? "-" : shortWeight(weights[weighting][k]!))),
      ]),
      caption: html`For <code>--class-weights NAME</code>, which counts them again in training. "-": the class does not occur.`,
    }),
  )
}

const shortWeight = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))

function methodSection(): Html {
  return section(
    "How this was counted",
    html`<p>Masks are read by palette index, or by the label map's colours where they are RGB. Numbers outside the label map count as void. Objects are connected over sides and corners. Copies are files of equal bytes; almost equal images have perceptual hashes that differ in few bits, and thumbnails (or one and the other's mirror image) whose brightness correlates by at least ${ALIKE}. An image counts as nearly of one colour when no channel deviates by ${FLAT} of 255 levels. Images are compared between lists only.</p>`,
  )
}

const rounded = (value: number): number => Number(value.toPrecision(3))
