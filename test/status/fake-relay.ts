/** A relay as its report asks for it, all well unless a test says otherwise. */
import type { EpochsState, RelayState, SiteState } from '../../src/status/relay-report.ts'

export const EPOCHS: EpochsState = {
  epoch: 'e1',
  ageMs: 3_600_000,
  watermarkAgeMs: 640,
  lastEnd: {
    reason: 'relay-started',
    instance: undefined,
    agoMs: 3_605_000,
    sentence: 'The relay was started; nothing is to be done.',
  },
  setback: undefined,
  ends: { 'relay-started': 1, 'canary-missing': 0 },
  instances: [{ address: 'http://10.0.0.1:5000', instanceId: 'a1', lastCanaryAgeMs: 640 }],
  canaries: { sent: 3605, returned: 3604, lost: 1, refused: 0 },
}

export const TOKYO: SiteState = {
  name: 'tokyo',
  connected: true,
  through: 12_345,
  behind: 0,
  lagMs: 0,
  lastSeenMs: 800,
}

export interface FakeRelay {
  readonly epochs?: EpochsState | undefined
  readonly note?: string | undefined
  readonly sites?: readonly SiteState[]
}

export function fakeRelay(given: FakeRelay = {}): RelayState {
  return {
    log: () => ({ id: 'log-1', first: 1000, last: 12_345, bytes: 3 * 2 ** 20 }),
    events: () => 4321,
    epochs: () => ('epochs' in given ? given.epochs : EPOCHS),
    note: () => given.note,
    sites: () => given.sites ?? [TOKYO],
  }
}
