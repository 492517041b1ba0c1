// The part of the page that tells the suspected problems: of each, why it matters, what to do, which files, and some of them as
// pictures.
import { dataTable, details, figure, type Html, html, notice, row, section } from "../report/html.ts"
import { plural } from "../train/facts.ts"
import { byProblem, type Exploration } from "./explore.ts"
import { type DataFiles, shownPath } from "./files.ts"
import { entryPicture, oneByOne } from "./pictures.ts"
import { type Finding, type ProblemName, problemKinds, problemNames } from "./problem-kinds.ts"

export async function problemsSection(exploration: Exploration): Promise<Html> {
  const { findings, files } = exploration
  const problems = byProblem(findings)
  const ofSeverity = (severity: "error" | "warning") =>
    problems.filter(([name]) => problemKinds[name].severity === severity)
  const [serious, others] = [ofSeverity("error"), ofSeverity("warning")]
  const told = new Set([...problems.map(([name]) => name), ...cannotTell(files)])
  const pictures = pictureFinder(exploration)
  const tell = (some: [ProblemName, Finding[]][]) => oneByOne(some, ([name, its]) => problem(name, its, pictures))
  return section(
    "Suspected problems",
    problems.length === 0 ? html`<p>None was found.</p>` : overview([...serious, ...others]),
    serious.length > 0 &&
      notice(html`<strong>Serious</strong>: training stops at these, or its scores cannot be believed.`),
    await tell(serious),
    others.length > 0 && notice(html`<strong>Worth a look</strong>: these may be as they should be.`),
    await tell(others),
    details(
      "Looked for and not found",
      html`<ul>${problemNames.filter((name) => !told.has(name)).map((name) => html`<li>${problemKinds[name].title}</li>`)}</ul>`,
    ),
  )
}

/** All problems on one screen. */
const overview = (problems: [ProblemName, Finding[]][]): Html =>
  dataTable({
    head: ["problem", "cases", ""],
    rows: problems.map(([name, its]) => [
      html`<a href="#${name}">${problemKinds[name].title}</a>`,
      its.length.toLocaleString("en"),
      problemKinds[name].severity === "error" ? html`<strong>serious</strong>` : "worth a look",
    ]),
    words: [0, 2],
  })

/** Of which nothing can be said: without images, without a label map, without a background class. */
const cannotTell = ({ hasImages, isStandIn, labelMap }: DataFiles): ProblemName[] => [
  ...(hasImages ? [] : aboutImages),
  ...(isStandIn ? (["unknownLabels", "missingClasses"] as const) : []),
  ...(labelMap.background === undefined ? (["emptyMasks"] as const) : []),
]

const aboutImages: readonly ProblemName[] = [
  ...(["missingImages", "unreadableImages", "sizesDiffer", "copiesAcross", "alikeAcross", "copiesWithin"] as const),
  ...(["flatImages", "turnedImages"] as const),
]

const FIRST = 5
const MOST = 1000 // more would make the page slow; --json has all

async function problem(
  name: ProblemName,
  findings: readonly Finding[],
  pictures: ReturnType<typeof pictureFinder>,
): Promise<Html> {
  const { title, unit, why, whatToDo } = problemKinds[name]
  const item = ({ where, detail }: Finding) =>
    html`<li>${where.map((file, k) => html`${k > 0 && " and "}<code>${file}</code>`)}${detail && `: ${detail}`}</li>`
  const rest = findings.slice(FIRST, MOST)
  const left = findings.length - FIRST - rest.length
  return html`<h3 id="${name}">${title}: ${plural(findings.length, unit, unit === "class" ? "classes" : `${unit}s`)}</h3>
<p>${why}</p>
<p><strong>What to do:</strong> ${whatToDo}</p>
<ul>${findings.slice(0, FIRST).map(item)}</ul>
${rest.length > 0 && details(plural(rest.length, "more", "more"), html`<ul>${rest.map(item)}</ul>`, left > 0 && html`<p>And ${plural(left, "more", "more")}: <code>pixelwise explore --json</code> lists all.</p>`)}
${await pictures(name, findings)}
`
}

/** Problems that a picture tells better than words; whether with the labels over it. */
const pictured: Partial<Record<ProblemName, { plain: boolean }>> = {
  ...{ copiesAcross: { plain: true }, alikeAcross: { plain: true } },
  ...{ copiesWithin: { plain: false }, sameMasks: { plain: false }, emptyMasks: { plain: true } },
  ...{ flatImages: { plain: true }, turnedImages: { plain: false } },
}

const SHOWN = 4

/** A function from findings to pictures of the first few; null where pictures tell nothing. */
function pictureFinder({ files, facts }: Exploration) {
  const indices = new Map<string, number>() // by either file
  for (const [index, { image, mask }] of files.entries.entries()) {
    for (const file of [image, mask]) if (file !== null) indices.set(shownPath(files.root, file), index)
  }
  return async (name: ProblemName, findings: readonly Finding[]): Promise<Html | null> => {
    const how = pictured[name]
    if (how === undefined) return null
    const cases = await oneByOne(findings.slice(0, SHOWN), ({ where }) =>
      oneByOne(where, async (file) => {
        const index = indices.get(file)!
        const picture = await entryPicture(files.entries[index]!, facts[index]!, files, how)
        return picture && figure(picture, html`<code>${files.entries[index]!.id}</code>`)
      }),
    )
    const isPairs = findings[0]!.where.length > 1
    const rows = isPairs ? cases : [cases.flat()]
    return html`${rows.map((figures) => figure(row(...figures)))}`
  }
}
