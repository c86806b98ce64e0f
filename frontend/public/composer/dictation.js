// Records speech, and writes its text into the composer. The server transcribes it.

const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"]; // the types that the server accepts

export class Dictation {
  #recorder = null;

  /** `write(text)` inserts the text. The other arguments are those of Composer. */
  constructor({ button, problem, chatkit, report, write }) {
    Object.assign(this, { button, problem, chatkit, report, write });
    button.addEventListener("click", () => (this.#recorder ? this.#recorder.stop() : this.#start()));
  }

  offer(isOffered) {
    this.button.hidden = !(isOffered && navigator.mediaDevices && window.MediaRecorder);
  }

  /** Stops a recording and forgets it. */
  stop() {
    if (!this.#recorder) return;
    this.#recorder.onstop = null;
    this.#end();
  }

  async #start() {
    this.problem.textContent = "";
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      this.problem.textContent = "The browser did not allow the microphone.";
      return;
    }
    const pieces = [];
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.#recorder = new MediaRecorder(stream, { mimeType });
    this.#recorder.ondataavailable = ({ data }) => pieces.push(data);
    this.#recorder.onstop = () => {
      this.#end();
      this.#transcribe(new Blob(pieces, { type: mimeType }));
    };
    this.#recorder.start();
    this.#show("Stop dictation", { recording: true });
  }

  #end() {
    for (const track of this.#recorder.stream.getTracks()) track.stop(); // the browser hides its microphone icon
    this.#recorder = null;
    this.#show("Dictate");
  }

  async #transcribe(audio) {
    this.#show("Writing down…", { busy: true });
    try {
      this.write(await this.chatkit().transcribe(audio));
    } catch (error) {
      this.report(error, (message) => (this.problem.textContent = message));
    }
    this.#show("Dictate");
  }

  #show(label, { recording = false, busy = false } = {}) {
    this.button.title = label;
    this.button.setAttribute("aria-label", label);
    this.button.classList.toggle("recording", recording);
    this.button.disabled = busy;
  }
}
