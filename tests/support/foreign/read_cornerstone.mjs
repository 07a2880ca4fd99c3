// Reads SEG by @cornerstonejs/adapters, as OHIF does, into label maps on the images of the series.
import { adaptersSEG } from "@cornerstonejs/adapters";
import { cache, metaData } from "@cornerstonejs/core";
import { answerJob, bytesOf } from "./common.mjs";

const known = new Map();

// The modules of an image that a viewer's loader would provide.
const modules = {
  instance: (image) => image,
  generalSeriesModule: (image) => ({ seriesInstanceUID: image.SeriesInstanceUID, modality: image.Modality }),
  generalImageModule: (image) => ({ sopInstanceUID: image.SOPInstanceUID }),
  imagePlaneModule: (image) => ({
    frameOfReferenceUID: image.FrameOfReferenceUID,
    rows: image.Rows,
    columns: image.Columns,
    imageOrientationPatient: image.ImageOrientationPatient.map(Number),
    rowCosines: image.ImageOrientationPatient.slice(0, 3).map(Number),
    columnCosines: image.ImageOrientationPatient.slice(3).map(Number),
    imagePositionPatient: image.ImagePositionPatient.map(Number),
    pixelSpacing: image.PixelSpacing.map(Number),
    rowPixelSpacing: Number(image.PixelSpacing[0]),
    columnPixelSpacing: Number(image.PixelSpacing[1]),
  }),
};
metaData.addProvider((kind, imageId) => known.has(imageId) && modules[kind]?.(known.get(imageId)));

let object = 0;
await answerJob(async (images, path) => {
  object += 1;
  const imageIds = images.map((image, n) =>
    image.frame ? `images:${object}/${image.SOPInstanceUID}/frames/${image.frame}` : `images:${object}/${n}`,
  );
  imageIds.forEach((imageId, n) => known.set(imageId, images[n]));
  const { createFromDICOMSegBuffer } = adaptersSEG.Cornerstone3D.Segmentation;
  const read = await createFromDICOMSegBuffer(imageIds, bytesOf(path), { metadataProvider: metaData });
  if (read.overlappingSegments || read.labelMapImages.length !== 1) throw new Error("segments overlap");
  const pixels = images[0].Rows * images[0].Columns;
  const voxels = new Uint8Array(images.length * pixels);
  for (const image of read.labelMapImages[0]) {
    voxels.set(image.voxelManager.getScalarData(), imageIds.indexOf(image.referencedImageId) * pixels);
  }
  cache.purgeCache();
  return { voxels, segments: read.segMetadata.data };
});
