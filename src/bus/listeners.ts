/** Who listens in this process. One that throws is logged, and keeps nothing from the others. */
import type { Logger } from '../log.ts'
import type { BusMessage, MessageOf } from './bus.ts'

export interface Listeners {
  on<K extends BusMessage['kind']>(kind: K, listener: (message: MessageOf<K>) => void): void
  onGap(listener: () => void): void
  tell(message: BusMessage): void
  tellGap(): void
}

export function createListeners(log: Logger): Listeners {
  const all = new Set<(message: BusMessage) => void>()
  const gaps = new Set<() => void>()

  function attempt(run: () => void, kind: string): void {
    try {
      run()
    } catch (error) {
      log.error({ error, kind }, 'a message of this site could not be acted on')
    }
  }

  return {
    on(kind, listener) {
      const isOfKind = isKind(kind)
      all.add((message) => {
        if (isOfKind(message)) listener(message)
      })
    },
    onGap(listener) {
      gaps.add(listener)
    },
    tell(message) {
      for (const listener of all) attempt(() => listener(message), message.kind)
    },
    tellGap() {
      for (const listener of gaps) attempt(listener, 'gap')
    },
  }
}

function isKind<K extends BusMessage['kind']>(kind: K) {
  return (message: BusMessage): message is MessageOf<K> => message.kind === kind
}
