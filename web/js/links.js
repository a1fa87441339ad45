// What a link in a graph of the front end says.

/** Say whether a link begins at an input of the subgraph that it is in: at the node -10, in some front ends a string. */
export const comesFromOutside = (link) => String(link?.origin_id) === "-10"
