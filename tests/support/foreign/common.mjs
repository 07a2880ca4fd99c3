// What both JavaScript readers of SEG share: the job, data sets, and the form of the answer.
import { readFileSync, writeFileSync } from "node:fs";
import dcmjs from "dcmjs";

const { DicomMessage, DicomMetaDictionary } = dcmjs.data;

/** Return the bytes of a file in a buffer of their own. */
export function bytesOf(path) {
  const read = readFileSync(path);
  return read.buffer.slice(read.byteOffset, read.byteOffset + read.byteLength);
}

/** Return a file as dcmjs's naturalized data set. */
export function datasetOf(path) {
  return DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(bytesOf(path)).dict);
}

/** Return the images of a series; a frame of a multi-frame image has its functional groups as attributes. */
function imagesOf(entries) {
  const files = new Map();
  return entries.map(({ path, frame }) => {
    if (!files.has(path)) files.set(path, datasetOf(path));
    const image = files.get(path);
    if (frame === null) return image;
    const [shared] = items(image.SharedFunctionalGroupsSequence);
    const groups = { ...shared, ...items(image.PerFrameFunctionalGroupsSequence)[frame - 1] };
    const attributes = Object.values(groups).map((sequence) => items(sequence)[0]);
    return Object.assign({}, image, ...attributes, { frame });
  });
}

/** Return a sequence as an array, whatever dcmjs made of one with a single item. */
export function items(sequence) {
  return sequence === undefined ? [] : Array.isArray(sequence) ? sequence : [sequence];
}

/**
 * Read each object of the job by `read(images, path)`, which returns segment numbers, one byte a voxel, in the
 * order of the images, and the segments' descriptions.
 */
export async function answerJob(read) {
  const answers = [];
  for (const { images, segmentation, labels } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
    const sources = imagesOf(images);
    const { voxels, segments } = await read(sources, segmentation);
    writeFileSync(labels, voxels);
    answers.push({
      shape: [sources.length, sources[0].Rows, sources[0].Columns],
      segments: segments.filter(Boolean).map((segment) => ({
        number: segment.SegmentNumber,
        label: segment.SegmentLabel,
        tracking_uid: segment.TrackingUID ?? "",
      })),
    });
  }
  writeFileSync(process.argv[3], JSON.stringify(answers));
}
