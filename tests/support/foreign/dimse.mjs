// A sender and a receiver of DICOM objects by dcmjs-dimse: "store PORT CALLED FILE..." and "receive PORT FOLDER".
import dcmjsDimse from "dcmjs-dimse";

const { Client, Scp, Server } = dcmjsDimse;
const { CEchoRequest, CStoreRequest } = dcmjsDimse.requests;
const { CEchoResponse, CStoreResponse } = dcmjsDimse.responses;
const { PresentationContextResult, Status, TransferSyntax } = dcmjsDimse.constants;
// The node answers late on a machine that is busy.
const PATIENCE = { connectTimeout: 300000, associationTimeout: 300000, pduTimeout: 300000 };

function store(port, called, files) {
  const client = new Client();
  const answers = [];
  for (const request of [new CEchoRequest(), ...files.map((file) => new CStoreRequest(file))]) {
    request.on("response", (response) => answers.push(response.getStatus()));
    client.addRequest(request);
  }
  client.on("networkError", (error) => {
    throw error;
  });
  client.on("closed", () => console.log(JSON.stringify(answers)));
  client.send("127.0.0.1", Number(port), "DCMJS", called, PATIENCE);
}

class Keeper extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      const offered = context.getTransferSyntaxUids();
      const explicit = TransferSyntax.ExplicitVRLittleEndian;
      context.setResult(PresentationContextResult.Accept, offered.includes(explicit) ? explicit : offered[0]);
    }
    this.sendAssociationAccept();
  }

  cEchoRequest(request, callback) {
    const response = CEchoResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }

  cStoreRequest(request, callback) {
    const response = CStoreResponse.fromRequest(request);
    request.getDataset().toFile(`${process.argv[4]}/${request.getAffectedSopInstanceUid()}.dcm`, (error) => {
      response.setStatus(error ? Status.ProcessingFailure : Status.Success);
      callback(response);
    });
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

const [action, port, ...rest] = process.argv.slice(2);
if (action === "store") {
  store(port, rest[0], rest.slice(1));
} else {
  new Server(Keeper).listen(Number(port), PATIENCE);
}
