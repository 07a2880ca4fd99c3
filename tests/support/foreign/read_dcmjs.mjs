// Reads SEG by dcmjs alone: its parser, its bit array, and the source image that each frame names.
import dcmjs from "dcmjs";
import { answerJob, datasetOf, items } from "./common.mjs";

await answerJob((images, path) => {
  const seg = datasetOf(path);
  const pixels = seg.Rows * seg.Columns;
  const bits = dcmjs.data.BitArray.unpack(items(seg.PixelData)[0]);
  const index = new Map(images.map((image, n) => [`${image.SOPInstanceUID}/${image.frame ?? ""}`, n]));
  const voxels = new Uint8Array(images.length * pixels);
  items(seg.PerFrameFunctionalGroupsSequence).forEach((groups, frame) => {
    const [derivation] = items(groups.DerivationImageSequence);
    const [source] = items(derivation.SourceImageSequence);
    const [shared] = items(seg.SharedFunctionalGroupsSequence);
    const [identification] = items(groups.SegmentIdentificationSequence ?? shared.SegmentIdentificationSequence);
    const at = index.get(`${source.ReferencedSOPInstanceUID}/${source.ReferencedFrameNumber ?? ""}`);
    if (at === undefined) throw new Error(`frame ${frame} names no image of the series`);
    for (let n = 0; n < pixels; n++) {
      if (bits[frame * pixels + n]) voxels[at * pixels + n] = identification.ReferencedSegmentNumber;
    }
  });
  return { voxels, segments: items(seg.SegmentSequence) };
});
