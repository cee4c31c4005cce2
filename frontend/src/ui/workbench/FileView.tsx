/** One text file: to read, and to change with an eye on what the agent does to it meanwhile. */
import { LoaderCircle, Pencil, RotateCw } from "lucide-react";
import { useState } from "react";
import { diffLines } from "../../lib/diff";
import { cleanTerminal } from "../../lib/terminal";
import { CopyButton } from "../CopyButton";
import { DiffView } from "../DiffView";
import { ErrorNote } from "../OtherPart";
import { formatBytes, fromField, languageOfPath, lineEndOf, toField } from "./files";
import type { OpenFile } from "./useFile";

/** Why the file is only shown; `undefined` where it can be changed. */
export function readOnlyReason({ content }: Pick<OpenFile, "content">): string | undefined {
  if (content?.text === undefined) return "It is not text.";
  if (content.next_offset !== undefined) return "It is too large to be changed here.";
  return lineEndOf(content.text) === "mixed" ? "Its lines end in different ways, which a text field would lose." : undefined;
}

function Text({ path, text }: { path: string; text: string }) {
  const shown = cleanTerminal(text);
  return (
    <>
      {shown !== toField(text) && shown !== text && (
        <p className="file-note" role="note" data-testid="hidden-characters">
          This file holds control or writing-direction characters, which are not shown. Its meaning may differ from its looks.
        </p>
      )}
      <div className="code-block file-code">
        <div className="code-head">
          <span data-label={languageOfPath(path)} className="code-language" />
          <CopyButton text={text} label="Copy the file" />
        </div>
        <pre tabIndex={0} data-testid="file-text" aria-label={`Content of ${path}`} role="group">
          {shown}
        </pre>
      </div>
    </>
  );
}

function Conflict({ file, text, onDone }: { file: OpenFile; text: string; onDone: () => void }) {
  const { theirs } = file;
  if (!theirs) return null;
  return (
    <div className="file-conflict" role="alert" data-testid="file-conflict">
      <p>
        <strong>The file changed while you edited it.</strong> Nothing was saved. This is what saving yours would do to it now:
      </p>
      {theirs.text !== undefined && <DiffView lines={diffLines(theirs.text, text)} />}
      <div className="action-group">
        <button type="button" className="button small" data-testid="conflict-theirs" onClick={() => file.takeTheirs()}>
          Drop mine
        </button>
        <button type="button" className="button small danger" data-testid="conflict-mine" disabled={file.busy} onClick={() => void file.save(text, theirs.version).then((saved) => saved && onDone())}>
          Save mine over it
        </button>
      </div>
    </div>
  );
}

function Editor({ file, path, initial, onDone }: { file: OpenFile; path: string; initial: string; onDone: () => void }) {
  const [text, setText] = useState(() => toField(initial));
  // What was edited, whatever has been read since.
  const [base] = useState(() => ({ version: file.content?.version ?? "", lineEnd: lineEndOf(initial) }));
  const content = fromField(text, base.lineEnd);
  const save = async () => {
    if (await file.save(content, base.version)) onDone();
  };
  return (
    <form
      className="file-editor"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <textarea
        className="field mono-field"
        aria-label={`Content of ${path}`}
        data-testid="file-editor"
        spellCheck={false}
        autoFocus
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if ((event.ctrlKey || event.metaKey) && event.key === "s") {
            event.preventDefault();
            void save();
          }
        }}
      />
      <Conflict file={file} text={content} onDone={onDone} />
      {file.error && <ErrorNote code={file.error.code} message={file.error.message} />}
      <div className="file-actions">
        <button type="button" className="button small" onClick={onDone}>
          Cancel
        </button>
        <button type="submit" className="button small primary" data-testid="file-save" disabled={file.busy || file.theirs !== undefined}>
          {file.busy && <LoaderCircle size={12} className="spin" aria-hidden />} Save
        </button>
      </div>
    </form>
  );
}

function Head({ file, path, editing, onEdit }: { file: OpenFile; path: string; editing: boolean; onEdit: () => void }) {
  const reason = readOnlyReason(file);
  return (
    <header className="file-head">
      <span className="ellipsis file-path" title={path} data-testid="file-path">
        {cleanTerminal(path)}
      </span>
      {file.content && <small>{formatBytes(file.content.size)}</small>}
      {!editing && (
        <>
          <button type="button" className="icon-button small" aria-label="Read the file again" title="Read again" onClick={() => file.reload()}>
            <RotateCw size={13} aria-hidden />
          </button>
          {file.content?.text !== undefined && (
            <button type="button" className="button small" data-testid="file-edit" disabled={reason !== undefined} title={reason} onClick={onEdit}>
              <Pencil size={12} aria-hidden /> Edit
            </button>
          )}
        </>
      )}
    </header>
  );
}

export function FileView({ file, path }: { file: OpenFile; path: string }) {
  const [editing, setEditing] = useState(file.isNew);
  const text = file.content?.text ?? (file.isNew ? "" : undefined);
  const done = () => {
    setEditing(false);
    file.settle();
  };
  return (
    <section className="file-view" aria-label={path}>
      <Head file={file} path={path} editing={editing} onEdit={() => setEditing(true)} />
      {editing && text !== undefined && (
        <Editor key={file.edition} file={file} path={path} initial={text} onDone={done} />
      )}
      {!editing && file.error && <ErrorNote code={file.error.code} message={file.error.message} />}
      {!editing && file.content?.binary && (
        <p className="file-note" data-testid="file-binary">
          This file is not text ({formatBytes(file.content.size)}). It is not shown here; a terminal has tools for it.
        </p>
      )}
      {!editing && text !== undefined && !file.isNew && <Text path={path} text={text} />}
      {!editing && file.content?.next_offset !== undefined && (
        <p className="file-note">Only the first {formatBytes(file.content.next_offset)} are shown.</p>
      )}
    </section>
  );
}
