// Writes a measurement report by @cornerstonejs/adapters, as OHIF does when a reader stores measurements.
import { adaptersSR } from "@cornerstonejs/adapters";
import { metaData } from "@cornerstonejs/core";
import { readFileSync, writeFileSync } from "node:fs";
import dcmjs from "dcmjs";
import { datasetOf } from "./common.mjs";

const { images, marks, report } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const known = new Map(images.map((path) => [`images:${path}`, datasetOf(path)]));
const modules = {
  instance: (image) => image,
  generalSeriesModule: (image) => ({ seriesInstanceUID: image.SeriesInstanceUID, modality: image.Modality }),
  sopCommonModule: (image) => ({ sopInstanceUID: image.SOPInstanceUID, sopClassUID: image.SOPClassUID }),
  frameNumber: () => 1,
  imagePlaneModule: (image) => ({
    frameOfReferenceUID: image.FrameOfReferenceUID,
    rowCosines: image.ImageOrientationPatient.slice(0, 3).map(Number),
    columnCosines: image.ImageOrientationPatient.slice(3).map(Number),
    imagePositionPatient: image.ImagePositionPatient.map(Number),
    rowPixelSpacing: Number(image.PixelSpacing[0]),
    columnPixelSpacing: Number(image.PixelSpacing[1]),
  }),
};
metaData.addProvider((kind, imageId) => known.has(imageId) && modules[kind]?.(known.get(imageId)));

const toolState = {};
for (const { tool, image, points, label } of marks) {
  const imageId = `images:${image}`;
  const stats = { length: 1, width: 1, area: 1, radius: 1, perimeter: 1, unit: "mm", areaUnit: "mm\xB2" };
  const free = { CodeValue: "CORNERSTONEFREETEXT", CodingSchemeDesignator: "CORNERSTONEJS", CodeMeaning: label };
  const drawn = {
    metadata: { toolName: tool, referencedImageId: imageId },
    data: {
      label,
      handles: { points, textBox: { hasMoved: true, worldPosition: points[0] }, arrowFirst: true },
      cachedStats: { [`imageId:${imageId}`]: stats },
      contour: { polyline: points, closed: true },
      text: label,
    },
    finding: label ? free : undefined,
    findingSites: [],
  };
  const ofImage = (toolState[imageId] ??= {});
  (ofImage[tool] ??= { data: [] }).data.push(drawn);
}
const { MeasurementReport } = adaptersSR.Cornerstone3D;
const made = MeasurementReport.generateReport(toolState, metaData, {});
writeFileSync(report, Buffer.from(dcmjs.data.datasetToDict(made.dataset).write()));
