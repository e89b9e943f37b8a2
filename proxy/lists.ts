/**
 * Tags, catalog and referrers: the primary's answer, passed on as it streams. A list that is not here in full cannot be
 * answered in an outage: an incomplete one would be taken for the truth.
 */
import type { Exchange } from './exchange.ts'
import type { Route } from './routes.ts'

export interface ListDeps {
  /** Sends the client's own request to the primary. `judged`: what is no registry's word is not passed on. */
  readonly passThrough: (exchange: Exchange, options: { readonly judged: boolean }) => Promise<void>
}

export function createLists({ passThrough }: ListDeps): (exchange: Exchange, route: Route) => Promise<void> {
  // A primary without the referrers API answers 404 in any words, and so do we: clients then try the fallback tag.
  return (exchange, route) => passThrough(exchange, { judged: route.kind !== 'referrers' })
}
