// Writes a measurement report by dcmjs alone (TID 1500, a length or a point for each mark, in pixels).
import { readFileSync, writeFileSync } from "node:fs";
import dcmjs from "dcmjs";
import { datasetOf } from "./common.mjs";

const { TID300, TID1500 } = dcmjs.utilities;
const { marks, report } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const images = new Map(marks.map(({ image }) => [image, datasetOf(image)]));

const measurements = marks.map(({ image, points, label }) => {
  const { SOPClassUID, SOPInstanceUID } = images.get(image);
  const [point1, point2] = points.map(([x, y]) => ({ x, y }));
  const about = {
    trackingIdentifierTextValue: label,
    findingSites: [],
    ReferencedSOPSequence: { ReferencedSOPClassUID: SOPClassUID, ReferencedSOPInstanceUID: SOPInstanceUID },
  };
  return points.length === 1
    ? new TID300.Point({ points: [point1], ...about })
    : new TID300.Length({ point1, point2, distance: 1, unit: "mm", ...about });
});
const sources = [...images.values()];
const series = Object.fromEntries(sources.map((image) => [image.SOPInstanceUID, image.SeriesInstanceUID]));
const content = new TID1500.TID1500MeasurementReport({
  TID1501MeasurementGroups: [new TID1500.TID1501MeasurementGroup(measurements)],
});
const made = new dcmjs.derivations.StructuredReport(sources);
Object.assign(made.dataset, content.contentItem(sources, { sopInstanceUIDsToSeriesInstanceUIDMap: series }));
made.dataset._meta = {
  MediaStorageSOPClassUID: { vr: "UI", Value: [made.dataset.SOPClassUID] },
  MediaStorageSOPInstanceUID: { vr: "UI", Value: [made.dataset.SOPInstanceUID] },
  TransferSyntaxUID: { vr: "UI", Value: ["1.2.840.10008.1.2.1"] },
};
writeFileSync(report, Buffer.from(dcmjs.data.datasetToDict(made.dataset).write()));
