// The problems that exploring a data set can find: what each is, why it matters and what to do, in words for someone who meets
// it for the first time. To add one: add it here, and find it in problems.ts, or in files.ts when the folder's names tell.

export interface ProblemKind {
  /** "error": training stops, or scores cannot be believed. "warning": worth a look, and may be as it should be. */
  readonly severity: "error" | "warning"
  readonly title: string
  /** What is counted: "mask", "pair". */
  readonly unit: string
  readonly why: string
  readonly whatToDo: string
}

/** In the order in which they are told. */
export const problemKinds = {
  labelMap: {
    severity: "error",
    title: "No usable label map",
    unit: "file",
    why: "A mask holds numbers. Without the label map nobody can tell which number is which class, and training does not start.",
    whatToDo:
      "Write label_map.txt into the data set's folder: one class name a line, in the order of their numbers, beginning with 0. Until then the classes are called by their numbers here.",
  },
  lists: {
    severity: "error",
    title: "Missing or malformed lists",
    unit: "list",
    why: "The lists in ImageSets/Segmentation say which images are for training (train.txt) and which are kept apart to measure how good the model is (val.txt).",
    whatToDo:
      "Write one id a line, such as 2007_000032: the file's name without folder and extension. Choose the images of val at random, and keep pictures of the same scene in the same list.",
  },
  noImages: {
    severity: "error",
    title: "No images at all",
    unit: "folder",
    why: "Everything that masks alone can tell is told here, and nothing that needs the images. Training needs them.",
    whatToDo: "Put the images into JPEGImages/, each with the name of its mask.",
  },
  missingMasks: {
    severity: "error",
    title: "Masks that are missing",
    unit: "mask",
    why: "A list names these ids, and there is no mask for them. Training does not start.",
    whatToDo: "Add SegmentationClass/<id>.png, or take the id out of the list.",
  },
  missingImages: {
    severity: "error",
    title: "Images that are missing",
    unit: "image",
    why: "A list names these ids, and there is no image for them. Training does not start.",
    whatToDo: "Add JPEGImages/<id>.jpg (or .png), or take the id out of the list.",
  },
  unreadableMasks: {
    severity: "error",
    title: "Masks that cannot be read",
    unit: "mask",
    why: "The file is damaged, cut off, or no kind of PNG that can hold labels. Training stops at it.",
    whatToDo: "Copy or export it again, as 8-bit palette PNG whose index is the class.",
  },
  unreadableImages: {
    severity: "error",
    title: "Images that cannot be read",
    unit: "image",
    why: "The file is damaged or cut off, so part of the picture would be grey or noise. Training stops at it.",
    whatToDo: "Copy or download it again. Where that is impossible, take its id out of the lists.",
  },
  unknownLabels: {
    severity: "error",
    title: "Labels outside the label map",
    unit: "mask",
    why: "These pixels have a number that is no class. Training stops at the first one, because guessing would teach the model nonsense. The figures below count them as void.",
    whatToDo:
      "Where the numbers are real classes, add them to the label map. Where they should not count, make them void (255, or what the label map ignores). A grey picture with many different numbers was a coloured mask once: export it again with its palette; or it is an alpha matte, for which there is --ground-truth alpha in training.",
  },
  unknownColors: {
    severity: "error",
    title: "Colours outside the label map",
    unit: "mask",
    why: "An RGB mask is read by its colours, and these have a colour that no class has. Mostly the mask was resized smoothly or saved as JPEG in between, which mixes colours along every outline. The figures below leave these masks out.",
    whatToDo:
      "Export the masks again as palette PNG, and resize masks by nearest neighbour only. Or give the label map the colours that the masks really have.",
  },
  renumberedPalettes: {
    severity: "error",
    title: "Palettes that were renumbered",
    unit: "mask",
    why: "The picture looks right, and every number in it is another class than the label map says: some editors and PNG optimisers reorder palettes. The figures below leave these masks out.",
    whatToDo: "Save these masks as RGB (they are then read by colour), or correct the label map.",
  },
  sizesDiffer: {
    severity: "error",
    title: "Image and mask of different size",
    unit: "image",
    why: "Each pixel of the image needs its label. Training stops here, because stretching one of them would shift labels.",
    whatToDo:
      "Find out which of the two was resized, and take the original. Where width and height are exchanged, the picture was turned: see its EXIF orientation.",
  },
  sharedIds: {
    severity: "error",
    title: "The same id in two lists",
    unit: "id",
    why: "The model is measured on images that it has seen in training. Its score then says how well it remembers, not how well it will do on new images.",
    whatToDo: "Take each id out of one of the lists.",
  },
  copiesAcross: {
    severity: "error",
    title: "The same image in two lists, under two names",
    unit: "pair",
    why: "The files are equal byte for byte, so the model is measured on images that it has seen in training, and the score is too good.",
    whatToDo: "Keep one of each pair. If the lists were made by shuffling, look for copies first next time.",
  },
  alikeAcross: {
    severity: "warning",
    title: "Almost the same image in two lists",
    unit: "pair",
    why: "Resized, brightened, mirrored or saved again, or a neighbouring frame of one film: a model that has seen one has almost seen the other, so the score is too good.",
    whatToDo:
      "Look at the pairs. Keep copies, and all frames of one film or one place, in the same list: split by scene, not by image.",
  },
  copiesWithin: {
    severity: "warning",
    title: "The same image twice in one list",
    unit: "pair",
    why: "It counts twice, in training and in scores. Where the two masks differ, the model is taught a contradiction.",
    whatToDo: "Keep the one with the better mask.",
  },
  repeatedIds: {
    severity: "warning",
    title: "An id twice in one list",
    unit: "id",
    why: "The image counts twice, in training and in scores.",
    whatToDo: "Take the second line out, unless it stands there on purpose.",
  },
  sameMasks: {
    severity: "warning",
    title: "The same mask for two images",
    unit: "pair",
    why: "Two different pictures do not have the same outlines to the pixel. Either a mask was saved under a wrong name, or the two pictures are copies of one.",
    whatToDo: "Look at both with their masks.",
  },
  emptyMasks: {
    severity: "warning",
    title: "Masks of nothing but background",
    unit: "mask",
    why: "Fine where the image really shows none of the classes. Many of them teach a model to predict only background, and often they are images that nobody got round to labelling.",
    whatToDo: "Look at a few of the images. Take those out that show a class and were not labelled.",
  },
  voidMasks: {
    severity: "warning",
    title: "Masks of nothing but void",
    unit: "mask",
    why: "Void pixels count nowhere: the image costs time and teaches nothing.",
    whatToDo: "Take it out of the list, or label it.",
  },
  rgbMasks: {
    severity: "warning",
    title: "RGB masks",
    unit: "mask",
    why: "Every colour in them is in the label map, so pixelwise reads them right, a little more slowly. Other tools take the brightness of the colour for the class.",
    whatToDo: "Nothing, to train here. To share the data set, save them as palette PNG.",
  },
  flatImages: {
    severity: "warning",
    title: "Images of nearly one colour",
    unit: "image",
    why: "A black, white or empty picture: a failed download, a covered lens, or a blank that an export left. There is nothing to learn from it.",
    whatToDo: "Look at it, and take its id out of the list unless it belongs there.",
  },
  turnedImages: {
    severity: "warning",
    title: "Images that viewers turn",
    unit: "image",
    why: "An EXIF tag asks viewers to turn the picture. The mask is laid on the pixels as they are stored; if it was drawn on the turned picture, every label of it is in the wrong place.",
    whatToDo:
      "Compare image and mask in an editor. Save the image upright and without the tag, or turn the mask as the tag says.",
  },
  missingClasses: {
    severity: "warning",
    title: "Classes without a pixel in training",
    unit: "class",
    why: "The model cannot learn what it never sees. If the other lists have the class, its IoU there is 0, and that pulls the mean down.",
    whatToDo: "Add images of it, choose the lists anew so that each class is in both, or train without it (--classes).",
  },
} satisfies Record<string, ProblemKind>

export type ProblemName = keyof typeof problemKinds
export const problemNames = Object.keys(problemKinds) as ProblemName[]

/** One case of a problem. */
export interface Finding {
  readonly problem: ProblemName
  /** Files, as paths from the data set's folder; or ids, or names of classes. One, or the two of a pair. */
  readonly where: readonly string[]
  /** What was found, where the problem's title does not say it all: "label 21: 340 pixels". */
  readonly detail?: string
}
