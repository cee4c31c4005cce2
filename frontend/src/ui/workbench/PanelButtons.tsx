/** The buttons in the session's header that open a panel. */
import type { SessionModel } from "../../state/model";
import { PANELS, PANEL_NAMES, type PanelName } from "./panels";

interface Props {
  readonly panel: PanelName | undefined;
  readonly onToggle: (name: PanelName) => void;
  readonly model: SessionModel;
}

export function PanelButtons({ panel, onToggle, model }: Props) {
  return (
    <div className="panel-buttons" role="group" aria-label="Panels">
      {PANEL_NAMES.map((name) => {
        const { title, icon: Icon } = PANELS[name];
        const denied = name === "network" ? model.network.denied : 0;
        const label = denied > 0 ? `${title}, ${denied} denied` : title;
        return (
          <button
            key={name}
            type="button"
            className="icon-button"
            aria-label={label}
            title={label}
            aria-pressed={panel === name}
            data-testid={`panel-${name}`}
            onClick={() => onToggle(name)}
          >
            <Icon size={16} aria-hidden />
            {denied > 0 && <span className="panel-mark" aria-hidden="true" />}
          </button>
        );
      })}
    </div>
  );
}
